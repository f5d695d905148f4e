"""Golden rows: the same file must answer as when it was made, and a new file as its checkpoint does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetf.core.artifact import Artifact, Manifest, Spec
from edgetf.core.errors import ArtifactError, ParityError
from edgetf.runtime.inputs import Piece
from edgetf.validation.golden import (
    COSINE_SAME_FILE,
    GOLDEN,
    PARITY_FP32,
    deployable_model,
    read_golden,
    same_file_parity,
    torch_parity,
    write_golden,
)

LOGITS = np.array([[2.0, -1.0, 0.5], [-0.5, 1.5, 0.0]])
PIECES = [[Piece([2, 7, 3], [0, 0, 0])], [Piece([2, 8, 3], [0, 0, 0]), Piece([2, 9, 3], [0, 0, 0])]]


@pytest.mark.parametrize("pairs", [None, ["x", "y"]])
def test_golden_rows_round_trip(tmp_path: Path, pairs: list[str] | None) -> None:
    write_golden(tmp_path, ["a", "b"], pairs, PIECES, LOGITS + 1e-7, LOGITS)
    golden = read_golden(tmp_path)
    assert (golden.texts, golden.pairs) == (["a", "b"], pairs)
    assert np.array_equal(golden.logits, LOGITS)
    assert np.array_equal(golden.torch_logits, LOGITS + 1e-7)


def test_golden_rows_hold_the_ids_of_every_piece(tmp_path: Path) -> None:
    write_golden(tmp_path, ["a", "b"], None, PIECES, LOGITS, LOGITS)
    rows = [json.loads(line) for line in (tmp_path / GOLDEN).read_text().split("\n") if line]
    assert rows[1]["input_ids"] == [[2, 8, 3], [2, 9, 3]]
    assert rows[0]["token_type_ids"] == [[0, 0, 0]]


@pytest.mark.parametrize("strange", ["\n", "\u2028", "\u2029", "\x85", "\x0b", '"', "🎉"], ids=ascii)
def test_a_golden_text_of_any_kind_is_one_row(tmp_path: Path, strange: str) -> None:
    texts = [f"a{strange}b", "c"]
    write_golden(tmp_path, texts, None, PIECES, LOGITS, LOGITS)
    assert read_golden(tmp_path).texts == texts


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n", b'{"text": "a", "logits": [1]}\n', b"\xff"], ids=repr)
def test_a_broken_golden_file_is_an_artifact_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / GOLDEN).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"golden.jsonl: .* again"):
        read_golden(tmp_path)


def test_a_missing_golden_file_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="golden.jsonl: cannot be read"):
        read_golden(tmp_path)


def test_fp32_may_differ_from_torch_by_rounding_only() -> None:
    found = torch_parity("m", "fp32", LOGITS, LOGITS + PARITY_FP32 / 2)
    assert found["max_abs_difference"] == pytest.approx(PARITY_FP32 / 2)
    assert found["cosine"] == pytest.approx(1)
    with pytest.raises(ParityError, match="m: logits differ from torch by 0.0002, allowed: 0.0001"):
        torch_parity("m", "fp32", LOGITS, LOGITS + 2 * PARITY_FP32)


def test_a_quantized_file_must_point_where_torch_does() -> None:
    assert torch_parity("m", "w8a8_dynamic", LOGITS, LOGITS * 1.1 + 0.05)["cosine"] > 0.99
    with pytest.raises(
        ParityError, match=r"m: cosine -1.000 with the logits of torch, .*quantization broke this model"
    ):
        torch_parity("m", "w8a8_dynamic", LOGITS, -LOGITS)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_quantized_file_must_answer_in_the_size_of_torch(factor: float) -> None:
    message = rf"m: logits {factor:.3g} times as large as those of torch, allowed: 0.67 to 1.5; a scale .* is broken"
    with pytest.raises(ParityError, match=message):
        torch_parity("m", "w8a8_dynamic", LOGITS, factor * LOGITS)


@pytest.mark.parametrize("scheme", ["fp32", "w8a8_dynamic"])
@pytest.mark.parametrize("side", ["torch", "runtime", "both"])
def test_nan_is_never_parity(scheme: str, side: str) -> None:
    """NaN compares with nothing, so "is not larger than allowed" would let it through."""
    broken = LOGITS.copy()
    broken[0, 0] = np.nan
    with pytest.raises(ParityError):
        torch_parity("m", scheme, LOGITS if side == "runtime" else broken, LOGITS if side == "torch" else broken)


def test_the_same_fp32_file_answers_the_same() -> None:
    assert same_file_parity("fp32", LOGITS, LOGITS + PARITY_FP32 / 2) is None
    problem = same_file_parity("fp32", LOGITS, LOGITS + 3 * PARITY_FP32)
    assert problem == "parity: logits moved by 0.0003 since it was made"


def test_the_same_int8_file_may_differ_a_little_on_another_machine() -> None:
    rng = np.random.default_rng(0)
    assert same_file_parity("w8a8_dynamic", LOGITS, LOGITS + rng.normal(0, 0.02, LOGITS.shape)) is None
    problem = same_file_parity("w8a8_dynamic", LOGITS, LOGITS[:, ::-1])
    assert problem is not None
    assert problem.startswith("parity: cosine ")


@pytest.mark.parametrize("factor", [0.5, 50.0])
def test_answers_of_another_size_are_not_the_same(factor: float) -> None:
    problem = same_file_parity("w8a8_dynamic", LOGITS, LOGITS.mean() + factor * (LOGITS - LOGITS.mean()))
    assert problem == f"parity: the logits are {factor:.2g} times as large as the golden ones"


def test_one_wrong_row_is_enough() -> None:
    moved = np.tile(LOGITS, (16, 1))
    golden = moved.copy()
    moved[7] = moved[7][::-1]
    for scheme in ("fp32", "w8a8_dynamic"):
        assert same_file_parity(scheme, golden, moved) is not None
    assert COSINE_SAME_FILE > 0.9


@pytest.mark.parametrize("scheme", ["fp32", "w8a8_dynamic"])
def test_nan_is_not_the_same_answer(scheme: str) -> None:
    assert same_file_parity(scheme, LOGITS, np.full_like(LOGITS, np.nan)) is not None


def artifact(kind: str = "onnx", **details: Any) -> Artifact:
    spec = Spec(kind, "model.onnx", details=details)
    return Artifact(Path("/models/m"), Manifest("m", "export", "k", spec, ()), "d")


@pytest.mark.parametrize(("kind", "backend"), [("onnx", "ort"), ("tflite", "litert")])
def test_a_variant_names_all_that_the_runner_needs(kind: str, backend: str) -> None:
    model = deployable_model(artifact(kind, max_length=32, long_texts="chunk", pad_id=1))
    assert (model.name, model.folder, model.model_file) == ("m", Path("/models/m"), "model.onnx")
    assert (model.backend, model.max_length, model.long_texts, model.pad_id) == (backend, 32, "chunk", 1)


def test_a_checkpoint_does_not_run_on_a_device() -> None:
    with pytest.raises(ArtifactError, match="a torch artifact does not run; give an exported variant"):
        deployable_model(artifact("torch"))


@pytest.mark.parametrize(
    "details", [{}, {"max_length": 32, "pad_id": 0}, {"long_texts": "chunk", "pad_id": 0}], ids=str
)
def test_a_variant_that_lacks_a_detail_is_an_artifact_error(details: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        deployable_model(artifact(**details))
