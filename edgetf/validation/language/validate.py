"""Validate a decoder on a device: golden tokens, perplexity beside its teacher, tokens a second, budgets, a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from edgetf.core.artifact import Artifact
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.predict.decode import forecast_decode
from edgetf.predict.decode_bytes import TokenCost, token_cost
from edgetf.runtime.decode.model import DecoderModel, decoder_model
from edgetf.targets.target import Target, Tick
from edgetf.validation.attempt import attempt
from edgetf.validation.emulated import take_counts
from edgetf.validation.fallback import fallback_problem
from edgetf.validation.language.asking import Asker
from edgetf.validation.language.decoding import measure_decoding
from edgetf.validation.language.evaluation import read_exam
from edgetf.validation.language.golden import GOLDEN, parity, parity_problem, read_greedy
from edgetf.validation.language.metrics import floor_problem, language_metrics
from edgetf.validation.language.settings import LanguageSettings, fitting_contexts
from edgetf.validation.latency import apart
from edgetf.validation.row import DeviceRow

BLOCKS_EMULATED = 4  # of an exam: emulation is some hundred times slower than a processor


def validate_language(
    artifact: Artifact,
    device: DeviceProfile,
    reference: Artifact | None,
    budget: Mapping[str, float],
    settings: LanguageSettings,
    tick: Tick | None = None,
) -> DeviceRow:
    """Measure a decoder and judge it.

    Raises:
        ArtifactError, DeviceError, ParityError: the file cannot be opened or run at all.
    """
    runtime = device.runtime_of(artifact.spec.kind)  # type: ignore[arg-type]
    model = replace(decoder_model(artifact, runtime), provider=device.provider)
    contexts = fitting_contexts(settings.contexts, model.decoder.max_length)

    def measure(row: DeviceRow, target: Target) -> None:
        asker = Asker(target, model, settings.threads, tick)
        _measure(row, asker, artifact, device, reference, budget, (contexts, settings.samples))

    def predict(row: DeviceRow) -> None:
        context = contexts[len(contexts) // 2]
        found = forecast_decode(artifact.model_path, model.decoder, device, context)
        row.how, row.seq_len, row.predicted = "predicted", context, found.to_json()

    return attempt(artifact, device, settings.threads, budget, measure, predict)


def _measure(
    row: DeviceRow, asker: Asker, artifact: Artifact, device: DeviceProfile, reference: Artifact | None,
    budget: Mapping[str, float], timing: tuple[tuple[int, ...], int],
) -> None:  # fmt: skip
    """Fill the row.

    Raises:
        ArtifactError, ParityError: the file cannot be opened or run at all.
        DeviceError: the device is not available, or went away.
    """
    row.size_bytes = artifact.manifest.size_bytes
    row.reference_size_bytes = reference.manifest.size_bytes if reference else None
    emulated = asker.target.how == "emulated"
    if (artifact.path / GOLDEN).is_file():
        row.problems = _check_parity(row, asker, artifact)
    if reference is not None:
        exam = read_exam(reference.path, asker.model.decoder.vocab_size)
        part = exam.some(BLOCKS_EMULATED) if emulated else exam
        scored, answer = asker.score(part)
        if row.load_ms is None:  # there are no golden prompts
            _take_memory(row, answer)
        row.metrics = [metric.to_json() for metric in language_metrics(scored, part)]
        problem = floor_problem(exam, asker.model.decoder.vocab_size)
        row.problems += [problem] if problem else []
    other = decoder_model(reference) if reference is not None else None
    if emulated:
        row.machine = {**row.machine, "memory_mib": None}  # it would be this machine's
        row.peak_rss_bytes = row.load_ms = None
        if asker.target.counts:
            take_counts(row, asker.count(timing[0][len(timing[0]) // 2], other))
        return
    row.alone = apart(asker.model.backend, device, reference) if reference is not None else None
    measure_decoding(row, asker, *timing, budget, None if row.alone else other, _cost(artifact, asker.model))


def _check_parity(row: DeviceRow, asker: Asker, artifact: Artifact) -> list[str]:
    """What is wrong with the tokens that it writes after the golden prompts."""
    golden = read_greedy(artifact.path)
    answer = asker.greedy(golden.prompts, golden.longest)
    _take_memory(row, answer)
    written = [tokens[: len(wanted)] for tokens, wanted in zip(answer["tokens"], golden.tokens, strict=True)]
    row.parity = parity(golden.tokens, written)
    found = (parity_problem(artifact.spec.scheme, row.parity), fallback_problem(row.backend))
    return [problem for problem in found if problem]


def _take_memory(row: DeviceRow, answer: dict[str, Any]) -> None:
    """What the runner says of a process that held this model alone."""
    row.load_ms, row.peak_rss_bytes = round(answer["load_ms"], 2), answer["peak_rss_bytes"]
    row.backend, row.machine = answer["backend"], answer["machine"]


def _cost(artifact: Artifact, model: DecoderModel) -> TokenCost | None:
    """The bytes of a token; None where the package that reads the file is not here, or the file is another's."""
    with suppress(ArtifactError, DeviceError):
        return token_cost(artifact.model_path, model.decoder.cache_bytes_per_token)
    return None
