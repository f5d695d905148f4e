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
from tiny import tiny_classifier, tiny_rows, tiny_scores, tiny_tagged

from edgetf.core.artifact import open_verified

pytestmark = pytest.mark.slow
FAST = {"epochs": 8, "batch_size": 16, "learning_rate": 0.005, "threads": 1}

SLOW = {**FAST, "learning_rate": 0.001}  # a random teacher's vectors differ little


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
        assert "| variant | device | how | pearson | drop |" in (tmp_path / "r.md").read_text()
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


class TestEmbeddings:
    @pytest.fixture(scope="class")
    def run(self, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> TaskRun:
        folder = tmp_path_factory.mktemp("embeddings")
        teacher = tiny_classifier("bert", folder / "teacher")
        stages: list[dict[str, Any]] = [
            {"stage": "vocabulary", "size": 100},
            {"stage": "distill", **SLOW},
            {"stage": "prune", **SLOW, "epochs": 2, "round_to": 8, "head_ratio": 0.5, "importance": "fisher"},
            {"stage": "export", "formats": ["onnx", "tflite"]},
            {"stage": "quantize"},
        ]
        rows = [{"text": text} for text, _ in tiny_rows(240)]
        tree = {
            "task": "sentence_embeddings", "teacher": {"source": str(teacher)}, "student": {"num_hidden_layers": 1},
            "data": {"source": str(written(folder / "rows.jsonl", rows)), "max_length": 24}, "stages": stages,
            "budget": {"similarity_spearman": 0.3, "cosine": 0.5},
        }  # fmt: skip
        return run_of(cli, folder, tree)

    def test_every_file_is_measured(self, run: TaskRun) -> None:
        names = ["onnx-fp32", "onnx-w8a8_dynamic", "tflite-fp32", "tflite-w8a8_dynamic"]
        assert sorted(variant["name"] for variant in run.report["variants"]) == names
        for number in range(4):
            found = run.names(number)
            assert set(found) == {"similarity_spearman", "neighbor_agreement", "cosine"}
            assert found["cosine"]["value"] > 0.8
            assert all(metric["n"] == 48 and metric["ci95"] for metric in found.values())
        assert run.report["verdict"] == "pass"
        assert [metric["value"] for metric in run.report["teacher"]["metrics"]] == pytest.approx([1, 1, 1])

    def test_it_learns(self, run: TaskRun) -> None:
        history = open_verified(run.folder / "2-distill").spec.details["training"]["history"]
        assert history[-1]["loss_logits"] < 0.7 * history[0]["loss_logits"]
        assert history[-1]["loss_total"] < history[0]["loss_total"]
        assert "dev_similarity_spearman" in history[0]

    def test_golden_rows_hold_vectors(self, run: TaskRun) -> None:
        for row in golden_of(run.folder / "tflite-w8a8_dynamic"):
            assert len(row["embedding"]) == 32
            assert sum(value**2 for value in row["embedding"]) == pytest.approx(1, abs=1e-3)

    def test_infer_says_the_vector(self, cli: Cli, run: TaskRun) -> None:
        texts = ["rain storm cloud", "bank shares"]
        done = cli("infer", run.folder / "tflite-w8a8_dynamic", *texts, "--json")
        assert [len(row["embedding"]) for row in json.loads(done.stdout)] == [32, 32]
        assert "~" in cli("infer", run.folder / "onnx-fp32", *texts).stdout
        refused = cli("infer", run.folder / "onnx-fp32", *texts, "--pair", "rain")
        assert refused.returncode == 2
        assert "--pair: sentence_embeddings reads one text" in refused.stderr

    def test_card_and_reports(self, cli: Cli, run: TaskRun) -> None:
        card = (run.folder / "onnx-fp32" / "README.md").read_text()
        assert "pipeline_tag: sentence-similarity" in card
        assert "| vector | mean of the unpadded tokens, of length 1 |" in card
        assert "similarity_spearman" in cli("report", run.folder).stdout
        assert cli("inspect", run.folder).returncode == 0
        assert cli("validate", run.folder / "onnx-fp32", "--budget", "neighbor_agreement=0.1").returncode == 0

    def test_a_student_of_another_width_from_the_first_token(self, cli: Cli, run: TaskRun, tmp_path: Path) -> None:
        tree = yaml.safe_load(run.recipe.read_text())
        tree |= {"student": {"num_hidden_layers": 1, "hidden_size": 16}, "pooling": {"tokens": "first"}}
        tree["stages"] = [{"stage": "distill", **SLOW}, {"stage": "export", "formats": ["onnx"]}]
        tree["budget"] = {"similarity_spearman": 0.1}
        made = run_of(cli, tmp_path, tree)
        assert set(made.names()) == {"similarity_spearman", "neighbor_agreement"}
        assert len(golden_of(made.folder / "onnx-fp32")[0]["embedding"]) == 16
        refused = cli("compress", f"recipe={made.recipe}", "budget.cosine=0.9", "--dry-run")
        assert refused.returncode == 2
        assert "budget.cosine: vectors of 16 and of the teacher's 32 numbers have no cosine" in refused.stderr


def conll(path: Path, rows: list[tuple[list[str], list[str]]]) -> Path:
    texts = ["\n".join(f"{word}\t{tag}" for word, tag in zip(*row, strict=True)) for row in rows]
    path.write_text("\n\n".join(texts) + "\n")
    return path


class TestTokens:
    @pytest.fixture(scope="class")
    def run(self, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> TaskRun:
        folder = tmp_path_factory.mktemp("tokens")
        teacher = tiny_classifier("bert", folder / "teacher")
        stages: list[dict[str, Any]] = [
            {"stage": "finetune", **FAST},
            {"stage": "vocabulary", "size": 100},
            {"stage": "distill", **FAST, "relations": 0.1, "relation_heads": 4},
            {"stage": "prune", **FAST, "epochs": 3, "round_to": 8, "importance": "fisher", "target": {"params": 0.6}},
            {"stage": "export", "formats": ["onnx", "tflite"]},
            {"stage": "quantize"},
        ]
        more = written(folder / "more.jsonl", [{"tokens": words} for words, _ in tiny_tagged(60, seed=1)])
        rows = conll(folder / "rows.conll", tiny_tagged(240))
        data = {"source": str(rows), "max_length": 20, "unlabelled": str(more)}
        tree = {"task": "token_classification", "teacher": {"source": str(teacher)}, "data": data, "stages": stages}
        return run_of(cli, folder, {**tree, "student": {"num_hidden_layers": 1}, "budget": {"f1_drop": 0.5, "f1": 0.3}})

    def test_every_file_is_measured(self, run: TaskRun) -> None:
        names = ["onnx-fp32", "onnx-w8a8_dynamic", "tflite-fp32", "tflite-w8a8_dynamic"]
        assert sorted(variant["name"] for variant in run.report["variants"]) == names
        for number in range(4):
            found = run.names(number)
            assert set(found) == {"f1", "f1_drop", "token_accuracy", "agreement"}
            assert found["f1"]["value"] > 0.5
            assert found["f1"]["n"] == found["f1_drop"]["n"] == 48 < found["token_accuracy"]["n"]
            assert all(metric["ci95"] for metric in found.values())
        assert run.report["verdict"] == "pass"

    def test_golden_rows_say_which_tokens_speak(self, run: TaskRun) -> None:
        for row in golden_of(run.folder / "tflite-w8a8_dynamic"):
            assert len(row["logits"]) == len(row["text"].split())
            tokens = [token for piece in row["words"] for token, _ in piece]
            assert 0 < len(tokens) <= len(row["logits"])
            assert max(tokens) < len(row["input_ids"][0])

    def test_evaluation_rows_have_a_tag_for_every_word(self, run: TaskRun) -> None:
        lines = (run.folder / "teacher-onnx-fp32" / "evaluation.jsonl").read_text().splitlines()
        for row in map(json.loads, lines):
            assert len(row["label"]) == len(row["teacher_logits"]) == len(row["text"].split())

    @pytest.mark.parametrize("variant", ["onnx-w8a8_dynamic", "tflite-w8a8_dynamic"])
    def test_infer_prints_the_entities(self, cli: Cli, run: TaskRun, variant: str) -> None:
        done = cli("infer", run.folder / variant, "the bank in the rain", "Bank, rain.", "--json")
        plain, marked = json.loads(done.stdout)
        assert {"type": "MONEY", "text": "bank", "first_word": 1, "words": 1} in plain["entities"]
        assert marked["words"] == ["Bank", ",", "rain", "."]
        assert "MONEY: bank" in cli("infer", run.folder / variant, "the bank in the rain").stdout

    def test_card_and_reports(self, cli: Cli, run: TaskRun) -> None:
        card = (run.folder / "onnx-w8a8_dynamic" / "README.md").read_text()
        assert "pipeline_tag: token-classification" in card
        assert "| tags | O, B-MONEY, I-MONEY," in card
        assert "F1 drop against its teacher" in card
        assert cli("report", run.folder).returncode == 0
        assert cli("validate", run.folder / "onnx-w8a8_dynamic", "--budget", "f1_drop=0.5").returncode == 0

    def test_the_fine_tuned_teacher_keeps_its_tags(self, cli: Cli, run: TaskRun, tmp_path: Path) -> None:
        """Rows that lack a tag of the teacher's take its numbers."""
        few = [row for row in tiny_tagged(240) if not any(tag.endswith("SPORT") for tag in row[1])]
        words = ["finetune=null", f"teacher.source={run.folder / '1-finetune'}", "data.unlabelled=null",
                 f"data.source={conll(tmp_path / 'few.conll', few)}", "--dry-run", "--json"]  # fmt: skip
        done = cli("compress", f"recipe={run.recipe}", *words)
        assert done.returncode == 0, done.stderr
        assert "B-SPORT" in json.loads(done.stdout)["data"]["classes"]

    @pytest.mark.parametrize("family", ["distilbert", "roberta", "mobilebert"])
    def test_other_families(self, cli: Cli, run: TaskRun, tmp_path: Path, family: str) -> None:
        tree = yaml.safe_load(run.recipe.read_text())
        tree["teacher"] = {"source": str(tiny_classifier(family, tmp_path / "teacher"))}
        tree["stages"] = [
            {"stage": "finetune", **FAST}, {"stage": "distill", **FAST, "epochs": 2},
            {"stage": "export", "formats": ["onnx"]}, {"stage": "quantize"},
        ]  # fmt: skip
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({**tree, "budget": {}}))
        done = cli("compress", f"recipe={recipe}", "--out", tmp_path / "run", "--json")
        assert done.returncode in {0, 5}, done.stderr  # 5: a teacher that so few steps taught nothing
        for variant in json.loads(done.stdout)["variants"]:
            assert not any("parity" in why for why in variant["devices"][0]["why"])
