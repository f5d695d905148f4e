"""A model that one protobuf file cannot hold has its weights beside it, and does the same; here the bound is small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_decoder_quantize import SCHEMES, change, exported

from edgetf.core.files import weights_beside
from edgetf.core.schemes import Scheme
from edgetf.formats import onnx_files
from edgetf.formats.decoder import moments
from edgetf.formats.decoder.quantize import BlockWise, Calibration, quantize_decoder
from edgetf.formats.onnx_summary import summarize_onnx

BLOCKS = np.random.default_rng(2).integers(0, 300, (6, 40))


@pytest.fixture(params=["llama", "gpt2"])  # a fused graph and a plain one
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def in_two_files(folder: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The same model as one file and as two."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    one, _ = exported(folder / "one", family)
    with monkeypatch.context() as patch:
        patch.setattr(onnx_files, "LARGEST_PROTOBUF", 10_000)
        two, _ = exported(folder / "two", family)
    return one, two


def test_the_weights_stand_beside_the_graph(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = in_two_files(tmp_path, family, monkeypatch)
    assert not weights_beside(one).exists()
    assert two.stat().st_size < 0.5 * one.stat().st_size
    assert weights_beside(two).stat().st_size > 0.5 * one.stat().st_size
    sizes = [sum(summarize_onnx(path).part_bytes.values()) for path in (one, two)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_says_and_is_quantized_the_same(
    scheme: Scheme, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = in_two_files(tmp_path, family, monkeypatch)
    from edgetf.models.decoders.facts import decoder_facts

    facts = decoder_facts(one.parent)
    assert change(one, two, facts) < 1e-6
    how = BlockWise(calibration=Calibration(facts, BLOCKS))
    small = [path.with_name("small.onnx") for path in (one, two)]
    for path, target in zip((one, two), small, strict=True):
        quantize_decoder(path, target, scheme, how=how)
    assert change(*small, facts) < 1e-6
    assert not weights_beside(small[1]).exists()
    monkeypatch.setattr(onnx_files, "LARGEST_PROTOBUF", 1000)
    quantize_decoder(two, small[1], scheme, how=how)  # what it becomes is large too
    assert weights_beside(small[1]).exists() and change(*small, facts) < 1e-6


def test_moments_are_taken_for_as_many_values_as_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, facts = exported(tmp_path)
    how = BlockWise(calibration=Calibration(facts, BLOCKS))
    quantize_decoder(plain, tmp_path / "at_once.onnx", "w4", how=how)
    passes: list[list[str]] = []
    watching = moments._watching
    monkeypatch.setattr(moments, "_watching", lambda source, names: passes.append(names) or watching(source, names))
    monkeypatch.setattr(moments, "BYTES", 30_000)
    quantize_decoder(plain, tmp_path / "in_parts.onnx", "w4", how=how)
    assert len(passes) > 2 and len({name for names in passes for name in names}) == sum(map(len, passes))
    assert (tmp_path / "in_parts.onnx").read_bytes() == (tmp_path / "at_once.onnx").read_bytes()


def test_a_file_that_was_in_two_parts_and_is_written_as_one_leaves_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(onnx_files, "LARGEST_PROTOBUF", 1000)
        path, _ = exported(tmp_path)
        assert weights_beside(path).exists()
    exported(tmp_path)
    assert not weights_beside(path).exists()
