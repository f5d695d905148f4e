"""What is counted of a model beside what was measured, and what is said where the counted gain did not arrive."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from edgetf.config.load import load_recipe
from edgetf.core.artifact import Artifact, FileEntry, Manifest, Spec
from edgetf.models.shapes import cost_of
from edgetf.report.cells import cost_cells, stage_cells
from edgetf.report.cost import counted, remark_lines, shortfall
from edgetf.report.document import StageResult, VariantResult, document
from edgetf.report.markdown import run_markdown
from edgetf.validation.row import DeviceRow

CONFIG: dict[str, Any] = {
    "model_type": "bert", "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256,
    "max_position_embeddings": 64, "type_vocab_size": 2, "vocab_size": 100, "num_hidden_layers": 6,
}  # fmt: skip
MADE = {"edgetf": "0.1.0", "commit": "abc", "versions": {}}


@pytest.mark.parametrize(
    ("factor", "interval", "missing"),
    [
        (1.09, (0.5, 0.9), None),
        (1.1, (0.99, 1.2), "not faster"),
        (8.0, (0.4, 0.5), "not faster"),
        (1.1, (1.01, 1.04), "less than half of the gain is measured"),
        (1.1, (1.01, 1.06), None),
        (3.0, (1.7, 1.99), "less than half of the gain is measured"),
        (3.0, (1.7, 2.01), None),
        (3.0, (3.5, 4.5), None),
    ],
)
def test_a_gain_is_missed_by_a_rule(factor: float, interval: tuple[float, float], missing: str | None) -> None:
    assert shortfall(factor, interval) == missing


def file_of(
    top: Path, name: str, layers: int, interval: tuple[float, float] | None, stage: str = "validate"
) -> Artifact:
    """A delivered artifact of so many layers, with what was measured of it."""
    folder = top / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))
    row = row_of(interval)
    (folder / "validation.json").write_text(json.dumps([asdict(row)]))
    details = {"parity": None, "quantized_share": None}
    spec = Spec("onnx", "model.onnx", params=1000 * layers, details=details)
    files = (FileEntry("model.onnx", "0" * 64, layers << 20),)
    return Artifact(folder, Manifest(name, stage, "k", spec, files, made=MADE), "d")


def row_of(interval: tuple[float, float] | None) -> DeviceRow:
    speedup = sum(interval) / 2 if interval else None
    scatter = list(interval) if interval else None
    return DeviceRow("host", latency_p50_ms=6 / (speedup or 1), speedup=speedup, speedup_ci95=scatter)


def report_of(
    top: Path, distilled: tuple[float, float], pruned: tuple[float, float], quantized: tuple[float, float]
) -> dict[str, Any]:
    """A run of a 6-layer teacher, a 3-layer student, and what pruning left of it, by how fast each is."""
    recipe = load_recipe("quickstart")
    teacher = file_of(top, "teacher-onnx-fp32", 6, None)
    student, small = (file_of(top, name, 1, None, name.partition("-")[2]) for name in ("2-distill", "3-prune"))
    measured = file_of(top, "distill-onnx-fp32", 3, distilled)
    fp32, int8 = file_of(top, "onnx-fp32", 1, pruned), file_of(top, "onnx-w8a8_dynamic", 1, quantized)
    stages = [
        StageResult("distill", [student], False, measured),
        StageResult("prune", [small], False, fp32),
        StageResult("quantize", [int8], False, int8),
    ]
    variants = [
        VariantResult(fp32, [row_of(pruned)], made_by="prune"),
        VariantResult(int8, [row_of(quantized)], made_by="prune"),
    ]
    made = document(recipe, top, 1.0, MADE, teacher, stages, variants)
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def test_macs_are_of_one_text_of_the_timed_length(tmp_path: Path) -> None:
    record = report_of(tmp_path, (1.9, 2.1), (5.0, 5.5), (8.0, 9.0))
    wanted = {layers: cost_of({**CONFIG, "num_hidden_layers": layers}, 64).macs for layers in (6, 3, 1)}
    assert record["teacher"]["macs"] == wanted[6]
    assert [stage["macs"] for stage in record["stages"]] == [wanted[3], wanted[1], wanted[1]]
    assert [variant["macs"] for variant in record["variants"]] == [wanted[1], wanted[1]]


def test_an_artifact_without_a_config_has_no_macs(tmp_path: Path) -> None:
    artifact = file_of(tmp_path, "x", 1, None)
    (artifact.path / "config.json").unlink()
    assert counted(artifact, 64).macs is None


def test_a_gain_that_arrives_is_not_talked_about(tmp_path: Path) -> None:
    record = report_of(tmp_path, (1.9, 2.1), (5.0, 5.5), (8.0, 9.0))
    assert [stage["remarks"] for stage in record["stages"]] == [[], [], []]
    assert [variant["remarks"] for variant in record["variants"]] == [[], []]
    assert remark_lines(record) == []


def test_pruned_but_not_faster_is_said_beside_the_teacher_and_beside_the_stage_before(tmp_path: Path) -> None:
    record = report_of(tmp_path, (1.9, 2.1), (0.96, 1.02), (8.0, 9.0))
    fewer = record["teacher"]["macs"] / record["variants"][0]["macs"]
    teacher = (
        f"pruned but not faster: {fewer:.1f} times fewer multiply-accumulates than its teacher, "
        "measured 0.96 to 1.02 times as fast on host (95 %)"
    )
    student = (
        f"pruned but not faster: {fewer / 2:.1f} times fewer multiply-accumulates than the model before it (distill), "
        "measured 0.46 to 0.54 times as fast on host (95 %)"
    )
    assert record["variants"][0]["remarks"] == [teacher, student]
    assert record["variants"][1]["remarks"] == []
    assert [stage["remarks"] for stage in record["stages"]] == [[], [student], []]
    assert remark_lines(record) == [f"onnx-fp32: {teacher}", f"onnx-fp32: {student}"]
    assert f"- onnx-fp32: {teacher}\n" in run_markdown(record)


def test_a_stage_in_between_is_told_too(tmp_path: Path) -> None:
    record = report_of(tmp_path, (1.2, 1.4), (5.0, 5.5), (8.0, 9.0))
    (line,) = remark_lines(record)
    assert line.startswith("distill: distilled but less than half of the gain is measured: 2.0 times fewer")
    assert "than its teacher, measured 1.20 to 1.40 times as fast" in line


def test_what_was_not_timed_has_no_remark(tmp_path: Path) -> None:
    artifact = file_of(tmp_path, "onnx-fp32", 1, None)
    teacher = file_of(tmp_path, "teacher-onnx-fp32", 6, None)
    variants = [VariantResult(artifact, [row_of(None)], made_by="prune")]
    stages = [StageResult("prune", [artifact], False, artifact)]
    record = document(load_recipe("quickstart"), tmp_path, 1.0, MADE, teacher, stages, variants)
    assert record["variants"][0]["remarks"] == record["stages"][0]["remarks"] == []


def test_counted_and_measured_stand_side_by_side(tmp_path: Path) -> None:
    record = report_of(tmp_path, (1.9, 2.1), (5.0, 5.5), (8.0, 9.0))
    teacher, fp32, _ = cost_cells(record)
    assert (teacher[0], teacher[1], teacher[3:]) == ("teacher-onnx-fp32", "0.006 M", ("6.0 MiB", "6.00 ms", "1"))
    assert fp32[0:2] == ("onnx-fp32", "0.001 M (1/6.0)")
    assert fp32[2].endswith(" M (1/6.0)")
    assert fp32[3:] == ("1.0 MiB (1/6.0)", "1.14 ms", "5.25 × (5.00 to 5.50)")
    assert [row[0] for row in stage_cells(record)] == ["teacher", "distill", "prune", "quantize"]
    assert stage_cells(record)[1][4:7] == ("3.0 MiB (1/2.0)", "3.00 ms", "2.00 ×")
