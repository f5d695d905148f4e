"""Whether answers depend on batch mates or padding: float files say no, dynamic ones a little, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from exported import TEXTS, Exported, context_of, exported, quantized, sealed_checkpoint, sealed_export, top
from tiny import FAMILY_NAMES, tiny_classifier, tiny_tagged

from edgetf.core.metrics import Floats
from edgetf.data.dataset import Dataset, Split
from edgetf.formats.quantization import Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.runtime.backend import Engine
from edgetf.runtime.inputs import Batch
from edgetf.runtime.invariance import Shifts, shifts
from edgetf.runtime.model import Model
from edgetf.runtime.ort import OrtBackend
from edgetf.validation.golden import runtime_shifts

EXACT = 1e-5
every_family = pytest.mark.parametrize("family", FAMILY_NAMES)


def shifts_of(source: Exported, path: Path, texts: Sequence[str] = TEXTS.texts[:24]) -> Shifts:
    return shifts(OrtBackend().load(path, 1), source.encoder, texts, None)


@every_family
def test_a_float_file_does_not_care(family: str) -> None:
    found = shifts_of(exported(family), exported(family).path)
    assert found.batch is not None and found.batch < EXACT
    assert found.padding is not None and found.padding < EXACT


@pytest.mark.parametrize("scheme", ["w8a8", "w8a16", "w8", "w4", "fp8_e4m3"])
@every_family
def test_fixed_scales_do_not_care_either(family: str, scheme: str) -> None:
    how = Quantization(scheme, "per_tensor" if scheme == "fp8_e4m3" else "per_channel")  # type: ignore[arg-type]
    found = shifts_of(exported(family), quantized(family, how))
    assert (found.batch or 0) < 1e-3 and (found.padding or 0) < 1e-3


@every_family
def test_scales_of_each_input_do(family: str) -> None:
    dynamic = shifts_of(exported(family), quantized(family, Quantization("w8a8_dynamic")))
    static = shifts_of(exported(family), quantized(family, Quantization("w8a8")))
    assert (dynamic.batch or 0) > 1e-3 > (static.batch or 0)
    assert (dynamic.padding or 0) > 1e-3 > (static.padding or 0)


def test_the_runner_says_the_same() -> None:
    source, path = exported("bert"), quantized("bert", Quantization("w8a8_dynamic"))
    details = source.artifact.spec.details
    model = Model(
        name="onnx-w8a8_dynamic", folder=source.artifact.path, model_file=str(path), backend="ort",
        max_length=details["max_length"], long_texts=details["long_texts"], pad_id=details["pad_id"],
        task="sequence_classification",
    )  # fmt: skip
    assert runtime_shifts(model, TEXTS.texts[:24], None) == pytest.approx(asdict(shifts_of(source, path)), rel=1e-6)


class Answering:
    """A session whose answers are worked out by hand: the first id, and what leaks in from elsewhere."""

    input_names = ("input_ids",)
    engine = Engine("none", "none")

    def __init__(self, mates: float = 0.0, padding: float = 0.0, lengths: tuple[int, ...] | None = None) -> None:
        self.mates, self.padding, self.lengths = mates, padding, lengths
        self.widths: list[int] = []

    def run(self, batch: Batch) -> Floats:
        self.widths.append(batch.input_ids.shape[1])
        own = batch.input_ids.sum(axis=1, keepdims=True).astype(float)
        others = (len(own) - 1) * self.mates
        padded = (batch.attention_mask == 0).any(axis=1, keepdims=True) * self.padding
        return own + others + padded


class TestByHand:
    """In units of the standard deviation of the answers."""

    @staticmethod
    def spread(texts: Sequence[str]) -> float:
        encoder = exported("distilbert").encoder
        return float(np.std([sum(pieces[0].input_ids) for pieces in encoder.pieces(texts)]))

    @staticmethod
    def shifts(session: Answering, texts: Sequence[str]) -> Shifts:
        return shifts(session, exported("distilbert").encoder, texts, None)

    def test_padding_leaks(self) -> None:
        texts = TEXTS.texts[:8]
        found = self.shifts(Answering(padding=3.0), texts)
        assert found.padding == pytest.approx(3.0 / self.spread(texts))
        assert found.batch == pytest.approx(3.0 / self.spread(texts))  # a batch is padded too, to its longest

    def test_mates_leak(self) -> None:
        texts = TEXTS.texts[:8]
        found = self.shifts(Answering(mates=0.5), texts)
        assert found.batch == pytest.approx(7 * 0.5 / self.spread(texts))  # eight texts are a batch
        assert found.padding == 0

    def test_is_padded_to_the_end(self) -> None:
        session = Answering()
        self.shifts(session, TEXTS.texts[:8])
        assert max(session.widths) == 32

    def test_a_fixed_length_has_neither(self) -> None:
        assert self.shifts(Answering(padding=1.0, mates=1.0, lengths=(32,)), TEXTS.texts[:4]) == Shifts(None, None)

    def test_several_fixed_lengths_have_padding_but_no_mates(self) -> None:
        short = [" ".join(text.split()[:3]) for text in TEXTS.texts[:4]]
        found = self.shifts(Answering(padding=2.0, lengths=(8, 32)), short)
        assert found.batch is None
        assert found.padding == 0  # padded in either: to 8, and to 32

    def test_one_text_has_no_spread_to_measure_by(self) -> None:
        assert self.shifts(Answering(padding=2.0), TEXTS.texts[:1]) == Shifts(0.0, 2.0)


@pytest.fixture(scope="module")
def tagger() -> Exported:
    """A tagger: an answer for every token, so that padding has answers too, which do not count."""
    rows = tiny_tagged(60)
    texts = [" ".join(words) for words, _ in rows]
    names = sorted({tag for _, tags in rows for tag in tags})
    labels = [[names.index(tag) for tag in tags] for _, tags in rows]
    whole = Split(texts, None, list(labels))
    data = Dataset(names, whole, whole.select(list(range(20))), whole.select(list(range(20))), "tagged", 0, 0)
    context = context_of(data, task="token_classification")
    folder = top() / "tagger"
    checkpoint = sealed_checkpoint(tiny_classifier("bert", folder / "source", names), context, folder / "0-teacher")
    return sealed_export(checkpoint, context, folder / "1-export")


class TestTokens:
    def test_a_float_file_does_not_care(self, tagger: Exported) -> None:
        texts = tagger.context.data.dev.texts
        found = shifts_of(tagger, tagger.path, texts)
        assert (found.batch or 0) < EXACT and (found.padding or 0) < EXACT
        assert OrtBackend().load(tagger.path, 1).run(tagger.encoder.batch(
            [pieces[0] for pieces in tagger.encoder.pieces(texts[:3])])).ndim == 3  # fmt: skip

    def test_a_dynamic_one_does(self, tagger: Exported, tmp_path: Path) -> None:
        quantize_file("onnx", tagger.path, tmp_path / "int8.onnx", Quantization("w8a8_dynamic"))
        quantize_file("onnx", tagger.path, tmp_path / "static.onnx", Quantization("w8a8"), tagger.feeds())
        texts = tagger.context.data.dev.texts
        dynamic, static = (shifts_of(tagger, tmp_path / f"{name}.onnx", texts) for name in ("int8", "static"))
        assert (dynamic.batch or 0) > 1e-4 > (static.batch or 0)
        assert (dynamic.padding or 0) > 1e-4 > (static.padding or 0)


def test_pairs_are_read_as_pairs() -> None:
    source = exported("bert")
    texts, pairs = TEXTS.texts[:6], TEXTS.texts[6:12]
    found = shifts(OrtBackend().load(source.path, 1), source.encoder, texts, pairs)
    assert (found.batch or 0) < EXACT and (found.padding or 0) < EXACT
