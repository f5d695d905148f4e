"""The folders that users take away: an exported decoder, measured on every device, with its card and its numbers."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.decoder import DecoderFacts
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.files import write_json
from edgetf.core.progress import Report
from edgetf.data.corpus.blocks import pack
from edgetf.pipeline.deliver import REFERENCE, ROWS, link, on_every
from edgetf.report.language_card import language_card
from edgetf.runtime.decode.model import decoder_model
from edgetf.runtime.decode.text import UNFINISHED, TextCodec
from edgetf.stages.language.context import LanguageContext
from edgetf.targets.local import Local
from edgetf.targets.target import Tick
from edgetf.validation.language.asking import Asker
from edgetf.validation.language.evaluation import Exam, Ids, write_exam
from edgetf.validation.language.metrics import language_metrics, teacher_alone
from edgetf.validation.language.settings import LanguageSettings
from edgetf.validation.language.validate import validate_language
from edgetf.validation.row import DeviceRow


def deliver_reference(
    exported: Artifact, context: LanguageContext, settings: LanguageSettings, out: Path
) -> tuple[Spec, float]:
    """The fp32 ONNX file that every variant is compared with, with the test tokens and what it says of them.

    Raises:
        DataError: the test documents fill no block.
    """
    started = time.monotonic()
    link(exported, out)
    model = decoder_model(exported)
    ids = exam_blocks(exported, context)
    context.report(0, len(ids), "the teacher answers the test tokens")

    def tick(done: int, total: int) -> None:
        context.report(done, total, "the teacher answers the test tokens")

    teacher, answer = Asker(Local(), model, settings.threads, tick).teach(ids)
    exam = Exam(ids, text_sizes(ids, model.codec()), teacher)
    write_exam(out, exam)
    metrics = language_metrics(teacher_alone(teacher), exam)
    timed = validate_language(exported, load_device("host"), None, {}, settings)
    timed.metrics = [metric.to_json() for metric in metrics]
    timed.peak_rss_bytes = timed.peak_rss_bytes or answer["peak_rss_bytes"]
    write_json(out / ROWS, [asdict(timed)])
    return replace(exported.spec, metrics=tuple(metrics)), time.monotonic() - started


def deliver_variant(
    exported: Artifact,
    reference: Artifact,
    devices: list[DeviceProfile],
    settings: LanguageSettings,
    recipe: LanguageRecipe,
    made_by: str,
    report: Report,
    out: Path,
) -> tuple[Spec, float]:
    """A variant of the model that a stage of the kind `made_by` made, with its numbers on every device and its card."""
    started = time.monotonic()
    link(exported, out)

    def measure(device: DeviceProfile, tick: Tick) -> DeviceRow:
        return validate_language(exported, device, reference, recipe.budget, settings, tick)

    rows, metrics = on_every(devices, "test tokens", measure, report)
    write_json(out / ROWS, [asdict(row) for row in rows])
    text = language_card(exported, reference, rows, recipe.name, made_by)
    (out / "README.md").write_text(text, encoding="utf-8")
    details = {**exported.spec.details, "reference": REFERENCE}
    return replace(exported.spec, metrics=tuple(metrics), details=details), time.monotonic() - started


def exam_blocks(exported: Artifact, context: LanguageContext) -> Ids:
    """The test documents in blocks (N, T), as long as the recipe packs them and the model can read.

    Raises:
        DataError: they fill no block.
    """
    data, facts = context.recipe.data, DecoderFacts.from_json(exported.spec.details["decoder"])
    length = min(data.max_length, facts.max_length)
    return np.asarray(pack(context.corpus.test, exported.path, facts, length, limit=data.max_test_tokens))


def text_sizes(ids: Ids, codec: TextCodec) -> NDArray[np.int64]:
    """UTF-8 bytes of each block's text (N,) but that of its first token, which nothing predicts.

    A block may begin or end amid a character; each byte of the cut one is then spelt as one replacement character.
    """
    texts = [codec.text(block[1:].tolist()) for block in ids]
    return np.asarray([len(text.replace(UNFINISHED, "?").encode("utf-8")) for text in texts], dtype=np.int64)
