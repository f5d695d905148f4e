"""The self-check knows its answers: a right processor gives them exactly, and a wrong file is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetf.runtime.selfcheck import FOLDER, TOLERANCE, inputs, selfcheck, weights

FILES = {"fp32.onnx", "int8.onnx", "fp32.tflite", "int8.tflite"}


def test_this_machine_multiplies_rightly() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ai_edge_litert")
    errors = selfcheck()["errors"]
    assert set(errors) == FILES | {"numpy fp32"}
    assert max(errors.values()) <= TOLERANCE


def test_nothing_is_rounded() -> None:
    """Both extremes of 8 bits stand in every row and column, so that every scale is 1."""
    x, w = inputs(), weights()
    assert (x.min(axis=1) == -128).all() and (x.max(axis=1) == 127).all()
    assert (np.abs(w).max(axis=0) == 127).all()
    assert (x == np.round(x)).all() and (w == np.round(w)).all()
    assert np.abs(x).astype(np.int64).max() * np.abs(w).sum(axis=0).max() < 1 << 24  # exact in fp32, in any order


def test_one_wrong_weight_is_seen(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(FOLDER / "fp32.onnx")
    changed = weights()
    changed[3, 4] += 1
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(changed, "w"))
    onnx.save(model, tmp_path / "fp32.onnx")
    assert selfcheck(tmp_path)["errors"]["fp32.onnx"] > TOLERANCE


def test_the_files_are_what_their_writer_writes(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from check_files import write_onnx

    write_onnx(tmp_path)
    errors = selfcheck(tmp_path)["errors"]
    assert errors["fp32.onnx"] == errors["int8.onnx"] == 0
    assert {path.name for path in FOLDER.iterdir()} == FILES
