"""The main job for every other task, from a teacher to validated files, through the CLI."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from conftest import Cli
from tiny import tiny_classifier, tiny_scores

from edgetf.core.artifact import open_verified

pytestmark = pytest.mark.slow
FAST = {"epochs": 8, "batch_size": 16, "learning_rate": 0.005, "threads": 1}


@dataclass(frozen=True)
class TaskRun:
    """A finished run."""

    folder: Path
    recipe: Path
    report: dict[str, Any]

    def names(self, variant: int = -1) -> dict[str, dict[str, Any]]:
        """The metrics of a variant by their name."""
        return {metric["name"]: metric for metric in self.report["variants"][variant]["metrics"]}


def run_of(cli: Cli, folder: Path, tree: dict[str, Any]) -> TaskRun:
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"validation": {"samples": 30}, **tree}))
    done = cli("compress", f"recipe={recipe}", "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    return TaskRun(folder / "run", recipe, json.loads(done.stdout))


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def golden_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()]


class TestRegression:
    @pytest.fixture(scope="class")
    def run(self, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> TaskRun:
        folder = tmp_path_factory.mktemp("regression")
        rows = [{"text": text, "score": number} for text, number in tiny_scores(240)]
        teacher = tiny_classifier("distilbert", folder / "teacher")
        stages: list[dict[str, Any]] = [
            {"stage": "finetune", **FAST},
            {"stage": "vocabulary", "size": 100},
            {"stage": "distill", **FAST, "hidden": 0.1},
            {"stage": "prune", **FAST, "epochs": 3, "round_to": 8, "head_ratio": 0.5, "reconstruct": True},
            {"stage": "export", "formats": ["onnx"]},
            {"stage": "quantize"},
        ]
        data = {"source": str(written(folder / "rows.jsonl", rows)), "label": "score", "max_length": 24}
        budget = {"pearson_drop": 0.5, "mse": 5.0}
        tree = {"task": "regression", "teacher": {"source": str(teacher)}, "data": data, "stages": stages}
        return run_of(cli, folder, {**tree, "student": {"num_hidden_layers": 1}, "budget": budget})

    def test_every_file_is_measured(self, run: TaskRun) -> None:
        assert [variant["name"] for variant in run.report["variants"]] == ["onnx-fp32", "onnx-w8a8_dynamic"]
        for variant in run.report["variants"]:
            found = {metric["name"]: metric for metric in variant["metrics"]}
            assert set(found) == {"pearson", "pearson_drop", "spearman", "mse", "rmse"}
            assert found["pearson"]["value"] > 0.5
            assert found["pearson"]["ci95"][0] < found["pearson"]["value"] < found["pearson"]["ci95"][1]
            assert all(metric["n"] == 48 for metric in found.values())
        assert run.report["verdict"] == "pass"
        assert {check["key"] for check in run.report["variants"][0]["devices"][0]["checks"]} == {"pearson_drop", "mse"}

    def test_training_is_scored_by_the_correlation(self, run: TaskRun) -> None:
        spec = open_verified(run.folder / "3-distill").spec
        assert [metric.name for metric in spec.metrics] == ["dev_pearson"]
        assert "dev_pearson" in spec.details["training"]["history"][0]

    def test_golden_rows_hold_one_number(self, run: TaskRun) -> None:
        assert all(len(row["logits"]) == 1 for row in golden_of(run.folder / "onnx-w8a8_dynamic"))

    def test_card_report_and_junit(self, cli: Cli, run: TaskRun, tmp_path: Path) -> None:
        card = (run.folder / "onnx-w8a8_dynamic" / "README.md").read_text()
        assert "Pearson drop against its teacher" in card
        words = ["report", run.folder, "--markdown", tmp_path / "r.md", "--junit", tmp_path / "r.xml"]
        done = cli(*words)
        assert done.returncode == 0, done.stderr
        assert "pearson" in done.stdout
        assert "| variant | device | pearson | drop |" in (tmp_path / "r.md").read_text()
        cases = {case.get("name") for case in ElementTree.parse(tmp_path / "r.xml").iter("testcase")}
        assert cases == {"correct", "pearson_drop", "mse"}

    def test_infer_says_the_number(self, cli: Cli, run: TaskRun) -> None:
        done = cli("infer", run.folder / "onnx-w8a8_dynamic", "rain storm cloud", "bank shares", "--json")
        high, low = json.loads(done.stdout)
        assert high["score"] > low["score"]

    def test_validate_again(self, cli: Cli, run: TaskRun) -> None:
        variant = run.folder / "onnx-w8a8_dynamic"
        assert cli("validate", variant, "--budget", "pearson_drop=0.5").returncode == 0
        refused = cli("validate", variant, "--budget", "accuracy_drop=0.5")
        assert refused.returncode == 2
        assert "accuracy_drop: not measured for regression" in refused.stderr

    def test_a_second_run_reuses_everything(self, cli: Cli, run: TaskRun) -> None:
        done = cli("compress", f"recipe={run.recipe}", "--out", run.folder, "--json")
        assert all(stage["cached"] for stage in json.loads(done.stdout)["stages"])

    def test_the_fine_tuned_teacher_needs_no_finetune(self, cli: Cli, run: TaskRun) -> None:
        words = ["finetune=null", f"teacher.source={run.folder / '1-finetune'}", "--dry-run", "--json"]
        assert cli("compress", f"recipe={run.recipe}", *words).returncode == 0
        tree = yaml.safe_load(run.recipe.read_text())
        refused = cli(
            "compress",
            f"recipe={run.recipe}",
            "finetune=null",
            f"teacher.source={tree['teacher']['source']}",
            "--dry-run",
        )
        assert refused.returncode == 2
        assert "it has no regression head; add a finetune stage" in refused.stderr
