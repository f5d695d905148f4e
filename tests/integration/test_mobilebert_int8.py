"""MobileBERT in INT8, where a published file kept 0.052 of an accuracy of 0.744: no broken quantization passes here.

The recipe runs on a small MobileBERT; faults are planted into the files right after onnxruntime has written them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs edgetf[compress]")

import numpy as np
import onnx
from onnx import numpy_helper
from tiny import tiny_classifier, tiny_rows

from edgetf.config.load import load_recipe
from edgetf.core.errors import ParityError
from edgetf.core.schemes import Format
from edgetf.formats.quantization import Feeds, Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.pipeline.plan import make_plan
from edgetf.pipeline.run import execute
from edgetf.report.progress import Reporter

pytestmark = pytest.mark.slow
Damage = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What lets the recipe run on a small model and few rows."""
    folder = tmp_path_factory.mktemp("mobilebert")
    rows = tiny_rows(360, seed=3)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    teacher = folder / "teacher"
    teacher.mkdir()
    tiny_classifier("mobilebert", teacher, sorted({label for _, label in rows}))
    return [
        f"teacher.source={teacher}",
        f"data.source={data}",
        "data.max_length=16",
        'data.split={"dev": 0.3, "test": 0.3}',
        "finetune.epochs=12",
        "finetune.learning_rate=0.005",
        "finetune.threads=1",
        'export.formats=["onnx"]',
        'quantize.rungs=["dynamic", "static"]',
        "validation.samples=30",
    ]


def run(overrides: list[str], out: Path, *more: str) -> dict[str, Any]:
    """The report of the recipe; nothing is reused, because a key knows nothing of planted faults."""
    plan = make_plan(load_recipe("mobilebert_int8", [*overrides, *more]), allow_larger=True)
    return execute(plan, out, True, Reporter())


def accuracy(report: dict[str, Any], name: str) -> float:
    """Of a variant on the evaluation rows."""
    variant = next(variant for variant in report["variants"] if variant["name"] == name)
    return next(metric["value"] for metric in variant["metrics"] if metric["name"] == "accuracy")


def plant(monkeypatch: pytest.MonkeyPatch, damage: Damage) -> None:
    """Damage every file that is quantized from now on."""

    def write(kind: Format, source: Path, path: Path, how: Quantization, feeds: Feeds | None = None) -> None:
        quantize_file(kind, source, path, how, feeds)
        model = onnx.load(str(path))
        damage(model)
        onnx.save(model, str(path))

    monkeypatch.setattr("edgetf.stages.quantize.quantize_file", write)


def scaled(model: onnx.ModelProto, names: set[str], factor: float) -> None:
    """Multiply scales of these names."""
    found = [item for item in model.graph.initializer if item.name in names]
    assert found
    for item in found:
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(factor), item.name))


def weight_scales(model: onnx.ModelProto) -> set[str]:
    return {item.name for item in model.graph.initializer if item.name.endswith(".weight_scale")}


def activation_scales(model: onnx.ModelProto) -> set[str]:
    """Scales by which something is quantized while the model runs."""
    constants = {item.name for item in model.graph.initializer}
    return {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"} & constants


def test_the_recipe_keeps_the_accuracy(overrides: list[str], tmp_path: Path) -> None:
    report = run(overrides, tmp_path / "run")
    (ladder,) = report["ladder"]
    assert ladder["met"] and report["verdict"] == "pass"
    assert accuracy(report, "onnx-fp32") > 0.6
    assert accuracy(report, "onnx-auto") >= accuracy(report, "onnx-fp32") - 0.02
    assert not ladder["failed"]
    assert {rung["scheme"] for rung in ladder["rungs"]} == {"fp32", "w8a8_dynamic", "w8a8"}


def test_a_broken_weight_scale_is_refused(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, lambda model: scaled(model, {sorted(weight_scales(model))[0]}, 4))
    with pytest.raises(ParityError, match="no rung made an? onnx file.*a scale of this file is broken"):
        run(overrides, tmp_path / "run")


@pytest.mark.parametrize("factor", [1 / 16, 64], ids=["clipped", "coarse"])
def test_broken_activation_scales_never_pass(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """What the vendor's file had: weights are right, but what meets them is cut off, or rounded to nothing."""
    plant(monkeypatch, lambda model: scaled(model, activation_scales(model), factor))
    words = ["quantize.accuracy_drop=null", 'quantize.schemes=["w8a8"]']
    with pytest.raises(
        ParityError, match="onnx-w8a8: .*(quantization broke this model|a scale of this file is broken)"
    ):
        run(overrides, tmp_path / "run", *words)
