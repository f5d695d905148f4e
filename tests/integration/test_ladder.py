"""The ladder through the command line: it stops where a file keeps the accuracy and climbs where none does."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from conftest import Cli, Tiny
from exported import Exported, trained
from onnx import numpy_helper
from tiny import tiny_rows

from edgetf.config.data import DataConfig
from edgetf.core.artifact import load, open_verified
from edgetf.core.metrics import cosine
from edgetf.data.dataset import Split, load_dataset
from edgetf.formats.quantization import Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.runtime.ort import OrtBackend

pytestmark = pytest.mark.slow
RUNGS = ["dynamic", "static", "smooth", "sensitive"]
EVERY_HEAD = range(0, 32, 4)


@dataclass(frozen=True)
class Ran:
    """A run of the command line, its folder, and the words that made it."""

    done: subprocess.CompletedProcess[str]
    folder: Path
    words: list[str]

    @property
    def report(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return record

    @property
    def ladder(self) -> dict[str, Any]:
        (found,) = self.report["ladder"]
        return dict(found)

    @property
    def tried(self) -> list[str]:
        """The quantized files, in order."""
        return [rung["name"] for rung in self.quantized]

    @property
    def quantized(self) -> list[dict[str, Any]]:
        """What was measured of them; ahead of them stands the fp32 file."""
        plain, *rungs = self.ladder["rungs"]
        assert (plain["name"], plain["latency_ratio"]) == ("fp32", 1.0)
        return rungs

    def keeping(self, most: float) -> list[str]:
        """The files that lose no more than so much."""
        drops = {rung["name"]: next(m["value"] for m in rung["metrics"] if m["name"] == "accuracy_drop")
                 for rung in self.quantized}  # fmt: skip
        return [name for name, drop in drops.items() if drop <= most]


def ran(cli: Cli, recipe: Path, folder: Path, *words: str) -> Ran:
    every = ["compress", f"recipe={recipe}", "--out", str(folder), *words]
    return Ran(cli(*every), folder, every)


class TestKept:
    """Half of the accuracy may be lost: the first rungs do."""

    @pytest.fixture(scope="class")
    def kept(self, cli: Cli, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Ran:
        folder = tmp_path_factory.mktemp("kept")
        training = {"epochs": 10, "batch_size": 16, "learning_rate": 0.005, "threads": 1}
        stages = [
            {"stage": "finetune", **training},
            {"stage": "export", "formats": ["onnx"]},
            {"stage": "quantize", "rungs": RUNGS},
        ]
        recipe = tiny.with_(folder / "kept.yaml", stages=stages, budget={})
        return ran(cli, recipe, folder / "run", "quantize.accuracy_drop=0.5")

    def test_is_fine(self, kept: Ran) -> None:
        assert kept.done.returncode == 0, kept.done.stderr
        assert kept.report["verdict"] == "pass"
        chosen = kept.ladder["chosen"]
        outcome = "none keeps accuracy_drop=0.5 and is faster than fp32" if chosen == "fp32" else f"{chosen} keeps"
        assert f"onnx files {outcome}" in kept.done.stderr  # so small a model may be slower in INT8

    def test_the_file_that_it_found_is_the_variant_auto(self, kept: Ran) -> None:
        assert [variant["name"] for variant in kept.report["variants"]] == ["onnx-fp32", "onnx-auto"]
        auto, chosen = open_verified(kept.folder / "onnx-auto"), kept.ladder["chosen"]
        assert auto.spec.scheme == next(r["scheme"] for r in kept.ladder["rungs"] if r["name"] == chosen)
        source = load(kept.folder / ("2-export-onnx" if chosen == "fp32" else f"3-ladder-onnx-{chosen}"))
        assert auto.manifest.parents[0] == source.digest
        assert auto.model_path.read_bytes() == source.model_path.read_bytes()

    def test_both_first_rungs_were_measured_and_no_other(self, kept: Ran) -> None:
        """Only the clock says which of the two is faster."""
        assert kept.tried == ["dynamic", "static-min_max"]
        for rung in kept.quantized:
            assert rung["latency_ratio"] > 0 and rung["latency_ratio_ci95"][0] <= rung["latency_ratio_ci95"][1]
            assert 0.3 < rung["size_ratio"] < 0.6
            assert rung["quantized_share"] == 1.0
            names = {metric["name"] for metric in rung["metrics"]}
            assert {"accuracy", "accuracy_drop", "agreement", "mcnemar_p"} <= names
            assert {metric["n"] for metric in rung["metrics"] if metric["name"] == "accuracy"} == {36}  # the dev rows

    def test_the_report_says_what_was_asked_and_what_came_of_it(self, kept: Ran) -> None:
        found = kept.ladder
        assert (found["format"], found["member"], found["accuracy_drop"], found["met"]) == ("onnx", None, 0.5, True)
        assert found["chosen"] in ["fp32", *kept.tried]
        assert found["front"] and set(found["front"]) <= {"fp32", *kept.tried}
        assert found["failed"] == {}

    def test_the_fp32_file_was_written_once_for_both(self, kept: Ran) -> None:
        """Beside the one of the teacher as torch writes it."""
        exports = [path.name for path in kept.folder.iterdir() if path.is_dir()
                   and load(path).manifest.stage == "export"]  # fmt: skip
        assert sorted(exports) == ["1-teacher-onnx", "2-export-onnx"]

    def test_the_tables_show_it(self, cli: Cli, kept: Ran, tmp_path: Path) -> None:
        shown = cli("report", kept.folder).stdout
        assert "ladder, onnx: accuracy_drop=0.5 on the dev rows" in shown
        for name in kept.tried:
            assert f"onnx-{name}" in shown
        assert kept.done.stdout == shown
        cli("report", kept.folder, "--markdown", tmp_path / "report.md")
        text = (tmp_path / "report.md").read_text()
        assert "ladder, onnx: accuracy_drop=0.5 on the dev rows:\n\n| file | scheme | drop |" in text
        after = text.split("ladder, onnx", 1)[1]
        (line,) = (line for line in after.splitlines() if line.startswith(f"| onnx-{kept.ladder['chosen']} |"))
        assert "chosen" in line

    def test_a_second_run_makes_nothing(self, cli: Cli, kept: Ran) -> None:
        before = kept.report
        again = cli(*kept.words)
        assert again.returncode == 0, again.stderr
        assert "done in" not in again.stderr
        after = kept.report
        assert all(stage["cached"] for stage in after["stages"])
        assert after["ladder"] == before["ladder"] and after["variants"] == before["variants"]

    def test_a_named_scheme_is_made_beside_it(self, cli: Cli, kept: Ran) -> None:
        more = ['quantize.schemes=["w8"]', 'quantize.rungs=["dynamic"]', "quantize.accuracy_drop=0.5"]
        found = ran(cli, kept.folder.with_name("kept.yaml"), kept.folder.with_name("named"), *more)
        assert found.done.returncode == 0, found.done.stderr
        assert [each["name"] for each in found.report["variants"]] == ["onnx-fp32", "onnx-w8", "onnx-auto"]


def test_training_under_rounding_is_a_rung_too(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    training = {"epochs": 6, "batch_size": 16, "learning_rate": 0.005, "threads": 1}
    quantize = {"stage": "quantize", "rungs": ["qat"], "qat": {"epochs": 1, "threads": 1}}
    stages = [{"stage": "finetune", **training}, {"stage": "export", "formats": ["onnx"]}, quantize]
    recipe = tiny.with_(tmp_path / "qat.yaml", stages=stages, budget={})
    found = ran(cli, recipe, tmp_path / "run", "quantize.accuracy_drop=0.9")
    assert found.done.returncode == 0, found.done.stderr
    assert found.tried == ["qat-dynamic", "qat-static"] and found.keeping(0.9) == found.tried
    checkpoint = load(found.folder / "3-ladder-qat")
    assert "dev_score_rounded" in checkpoint.spec.details["qat"]
    assert load(found.folder / "3-ladder-qat-onnx").manifest.parents[0] == checkpoint.digest
    again = cli(*found.words)
    assert "done in" not in again.stderr


def test_what_a_device_refuses_is_not_tried(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    training = {"epochs": 2, "batch_size": 16, "learning_rate": 0.005, "threads": 1}
    quantize = {"stage": "quantize", "rungs": ["dynamic", "static"]}
    stages = [{"stage": "finetune", **training}, {"stage": "export", "formats": ["onnx"]}, quantize]
    devices = {"samples": 30, "devices": ["host", "jetson_thor"]}
    recipe = tiny.with_(tmp_path / "thor.yaml", stages=stages, budget={}, validation=devices)
    found = ran(cli, recipe, tmp_path / "run", "quantize.accuracy_drop=0.9")
    assert found.tried == ["static-min_max"], found.done.stderr
    assert found.ladder["failed"]["dynamic"].startswith("w8a8_dynamic is not run by tensorrt")
    assert not (found.folder / "3-ladder-onnx-dynamic").exists()


def outlier(times: float, lean: float) -> Any:
    """The trained model with one channel of every head so many times as large in what attention gives, and as much
    smaller in the weights that read it: the same answers, but a range that 8 bits cannot cover. It leans to the first
    class by so much.
    """
    import torch

    model = trained().model
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            value, dense = layer.attention.self.value, layer.attention.output.dense
            for channel in EVERY_HEAD:
                value.weight[channel] *= times
                value.bias[channel] *= times
                dense.weight[:, channel] /= times
        model.classifier.bias[0] += lean
    return model


def planted(folder: Path, times: float, lean: float = 0.0) -> Path:
    """A recipe whose teacher has outliers of this size, and needs no training."""
    source = trained()
    shutil.copytree(source.checkpoint.path, folder / "teacher")
    outlier(times, lean).save_pretrained(folder / "teacher")
    write_rows(folder / "rows.jsonl")
    tree = {
        "teacher": {"source": str(folder / "teacher")},
        "data": data_of(folder).model_dump(mode="json", include={"source", "max_length", "split"}),
        "stages": [
            {"stage": "export", "formats": ["onnx"]},
            {"stage": "quantize", "accuracy_drop": 0, "rungs": RUNGS},
        ],
        "validation": {"samples": 30},
    }
    (folder / "planted.yaml").write_text(yaml.safe_dump(tree))
    return folder / "planted.yaml"


def data_of(folder: Path) -> DataConfig:
    split = {"dev": 0.3, "test": 0.3, "seed": 0}
    return DataConfig(source=str(folder / "rows.jsonl"), max_length=16, split=split)


def write_rows(path: Path) -> None:
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in tiny_rows(240)))


def dynamic(source: Exported, times: float, folder: Path, dev: Split) -> tuple[float, float, float]:
    """Dev accuracy and cosine of the dynamic file of the trained model with outliers of this size.

    It leans to the first class, so far that in float just no row is wrong: the third number.
    """
    model = onnx.load(str(source.path))
    for item in model.graph.initializer:
        values = numpy_helper.to_array(item).copy()
        for channel in EVERY_HEAD:
            if item.name.endswith((".value.weight", ".value.bias")):
                values[..., channel] *= times
            elif item.name.endswith(("attention.output.dense.weight", "layer.1.output.weight")):
                values[channel] /= times
        item.CopyFrom(numpy_helper.from_array(values, item.name))
    onnx.save(model, str(folder / "planted.onnx"))
    quantize_file("onnx", folder / "planted.onnx", folder / "int8.onnx", Quantization("w8a8_dynamic"))
    alone = [source.encoder.batch(pieces) for pieces in source.encoder.pieces(dev.texts)]  # as the runner takes them
    sessions = [OrtBackend().load(folder / f"{name}.onnx", 1) for name in ("planted", "int8")]
    plain, other = (np.concatenate([session.run(batch) for batch in alone]) for session in sessions)
    gaps = plain[range(len(dev)), dev.labels] - plain[:, 0]
    lean = 0.99 * float(min(gap for gap, label in zip(gaps, dev.labels, strict=True) if label))
    plain[:, 0] += lean
    other[:, 0] += lean
    assert (plain.argmax(1) == dev.labels).all()
    return (
        float((other.argmax(1) == dev.labels).mean()),
        float(cosine(plain.reshape(1, -1), other.reshape(1, -1))[0]),
        lean,
    )


class TestOutliers:
    """So large that neither dynamic nor static INT8 answers as torch does."""

    @pytest.fixture(scope="class")
    def recipe(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return planted(tmp_path_factory.mktemp("outliers"), 1000)

    def test_smoothing_is_reached_and_keeps_all(self, cli: Cli, recipe: Path, tmp_path: Path) -> None:
        found = ran(cli, recipe, tmp_path / "run")
        assert found.done.returncode == 0, found.done.stderr
        assert found.ladder["met"] and [name for name in found.keeping(0) if name.startswith("smooth-")]
        failed = found.ladder["failed"]
        assert {"dynamic", "static-min_max", "static-percentile", "static-mse", "static-entropy"} <= set(failed)
        assert "cosine" in failed["dynamic"] and "quantization broke this model" in failed["dynamic"]
        assert "onnx-dynamic" in found.done.stdout and "refused: cosine" in " ".join(found.done.stdout.split())
        assert found.ladder["chosen"] in ["fp32", *found.keeping(0)]

    def test_where_no_rung_makes_a_file_it_says_why(self, cli: Cli, recipe: Path, tmp_path: Path) -> None:
        done = ran(cli, recipe, tmp_path / "run", 'quantize.rungs=["dynamic"]').done
        assert done.returncode == 5
        assert "quantize.accuracy_drop: no rung made a onnx file (dynamic: onnx-w8a8_dynamic: cosine" in done.stderr
        assert "Traceback" not in done.stderr

    def test_sensitive_starts_from_nothing_too(self, cli: Cli, recipe: Path, tmp_path: Path) -> None:
        found = ran(cli, recipe, tmp_path / "run", 'quantize.rungs=["dynamic","sensitive"]')
        assert found.done.returncode in {0, 1}, found.done.stderr
        assert found.tried and all(name.startswith("dynamic-float-") for name in found.tried)
        for rung in found.quantized:
            assert any("attention" in n or n.endswith(".output") for n in rung["quantization"]["keep_float"])
            assert 0.4 < rung["quantized_share"] < 1


class TestTight:
    """Outliers of a size that dynamic INT8 answers, but not all rows right; nothing may be lost."""

    @pytest.fixture(scope="class")
    def recipe(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("tight")
        write_rows(folder / "rows.jsonl")
        dev = load_dataset(data_of(folder)).dev
        for times in range(100, 300, 10):
            right, similar, lean = dynamic(trained(), times, folder, dev)
            if right < 1 and similar > 0.97:
                return planted(folder, times, lean)
        pytest.fail("no size of outliers is between all rows right and answers that are refused")

    def test_unmet_is_exit_code_1_with_the_best_so_far(self, cli: Cli, recipe: Path, tmp_path: Path) -> None:
        found = ran(cli, recipe, tmp_path / "run", 'quantize.rungs=["dynamic"]')
        assert found.done.returncode == 1, found.done.stderr
        assert (found.ladder["met"], found.ladder["chosen"], found.tried) == (False, "dynamic", ["dynamic"])
        assert found.report["verdict"] == "fail"
        assert "none keeps accuracy_drop=0, the best so far is dynamic" in found.done.stderr
        assert "no file keeps it, the best so far is taken" in found.done.stdout
        assert found.quantized[0]["refused"].startswith("loses 0.")
        open_verified(tmp_path / "run" / "onnx-auto")
        assert cli("report", tmp_path / "run").returncode == 1

    def test_a_higher_rung_keeps_it(self, cli: Cli, recipe: Path, tmp_path: Path) -> None:
        found = ran(cli, recipe, tmp_path / "run", 'quantize.rungs=["dynamic","smooth"]')
        assert found.done.returncode == 0, found.done.stderr
        assert found.ladder["met"] and found.tried[0] == "dynamic"
        assert found.keeping(0) and all(name.startswith("smooth-") for name in found.keeping(0))
