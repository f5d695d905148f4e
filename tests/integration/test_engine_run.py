"""One run through the parts that the usual recipe leaves out: two distillations, a vocabulary, a pruning target."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cli, Tiny
from tiny import tiny_rows

from edgetf.core.artifact import load, open_verified

pytestmark = pytest.mark.slow
FAST = {"batch_size": 16, "learning_rate": 0.003, "threads": 1}
STAGES = ["finetune", "vocabulary", "general", "distill", "prune", "export", "quantize"]


@dataclass(frozen=True)
class EngineRun:
    """A finished run, and the recipe behind it."""

    folder: Path
    recipe: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def engine_run(cli: Cli, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> EngineRun:
    folder = tmp_path_factory.mktemp("engine")
    more = folder / "more.jsonl"
    more.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in tiny_rows(300, seed=1)[240:]))
    data = yaml.safe_load(tiny.recipe.read_text())["data"]
    general = {"rows": "unlabelled", "logits": 0, "labels": 0, "hidden": 1.0, "attention": 1.0}
    recipe = tiny.with_(
        folder / "engine.yaml",
        data={**data, "unlabelled": str(more), "augment": {"methods": ["words", "delete"], "copies": 2}},
        stages=[
            {"stage": "finetune", "epochs": 8, "ensemble": 2, **FAST},
            {"stage": "vocabulary", "size": 100},
            {"stage": "distill", "name": "general", "epochs": 2, **FAST, **general},
            {"stage": "distill", "epochs": 3, **FAST},
            {"stage": "prune", "epochs": 2, **FAST, "round_to": 8, "target": {"params": 0.5}, "rounds": 2},
            {"stage": "export", "formats": ["onnx"]},
            {"stage": "quantize"},
        ],
        budget={},
    )
    done = cli("compress", f"recipe={recipe}", "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    return EngineRun(folder / "run", recipe, json.loads(done.stdout))


def weights(folder: Path) -> int:
    """The weights of a checkpoint."""
    return int(load(folder).spec.params or 0)


def test_the_report_has_every_stage_by_its_name(engine_run: EngineRun) -> None:
    report = json.loads((engine_run.folder / "report.json").read_text())
    assert report == engine_run.report
    assert [stage["name"] for stage in report["stages"]] == STAGES
    assert all(stage["metrics"] for stage in report["stages"])
    assert [variant["name"] for variant in report["variants"]] == ["onnx-fp32", "onnx-w8a8_dynamic"]


def test_every_stage_has_its_folder(engine_run: EngineRun) -> None:
    torch = [f"{number}-{name}" for number, name in enumerate(STAGES[:5], start=1)]
    measured = [f"{name}-onnx-fp32" for name in ("teacher", "vocabulary", "general", "distill")]
    for name in ["0-teacher", *torch, *measured, "onnx-fp32", "onnx-w8a8_dynamic"]:
        open_verified(engine_run.folder / name)
    assert not list(engine_run.folder.glob("*.partial"))


def test_the_second_teacher_is_another_and_beside_the_first(engine_run: EngineRun) -> None:
    first, second = (open_verified(engine_run.folder / name) for name in ("1-finetune", "1-finetune-1"))
    assert first.model_path.read_bytes() != second.model_path.read_bytes()
    assert second.digest in load(engine_run.folder / "4-distill").manifest.parents
    assert first.manifest.parents == second.manifest.parents


def test_the_second_teacher_is_what_a_run_of_the_next_seed_makes(
    cli: Cli, engine_run: EngineRun, tmp_path: Path
) -> None:
    words = [f"recipe={engine_run.recipe}", "seed=1", "finetune.ensemble=1", "vocabulary=null", "general=null"]
    done = cli("compress", *words, "distill=null", "prune=null", "quantize=null", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    models = [load(folder).model_path for folder in (tmp_path / "run/1-finetune", engine_run.folder / "1-finetune-1")]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_the_vocabulary_is_smaller_from_its_stage_on(engine_run: EngineRun) -> None:
    words = {
        name: json.loads((engine_run.folder / name / "config.json").read_text())
        for name in ("1-finetune", "2-vocabulary", "3-general", "5-prune")
    }
    assert words["1-finetune"]["vocab_size"] > 100
    assert words["2-vocabulary"]["vocab_size"] == words["3-general"]["vocab_size"] == words["5-prune"]["vocab_size"]
    assert words["5-prune"]["vocab_size"] <= 100
    assert words["2-vocabulary"]["max_position_embeddings"] == 16


def test_a_later_distill_stage_goes_on_with_the_student(engine_run: EngineRun) -> None:
    assert weights(engine_run.folder / "3-general") == weights(engine_run.folder / "4-distill")
    assert weights(engine_run.folder / "3-general") < weights(engine_run.folder / "2-vocabulary")


def test_pruning_keeps_to_its_target(engine_run: EngineRun) -> None:
    details = load(engine_run.folder / "5-prune").spec.details

    def size(shape: dict[str, Any]) -> int:
        heads = sum(4 * shape["hidden_size"] * shape["head_width"] * layer["heads"] for layer in shape["layers"])
        return heads + sum(2 * shape["hidden_size"] * sum(layer["neurons"]) for layer in shape["layers"])

    assert 0 < size(details["after"]) <= 0.5 * size(details["before"])
    assert details["search"]["target"] == {"params": 0.5}


def test_a_second_run_reuses_everything(cli: Cli, engine_run: EngineRun) -> None:
    done = cli("compress", f"recipe={engine_run.recipe}", "--out", engine_run.folder, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert all(stage["cached"] for stage in report["stages"])
    assert report["variants"] == engine_run.report["variants"]


def test_other_unlabelled_texts_leave_the_teacher_as_it_is(cli: Cli, engine_run: EngineRun, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"text": "storm over the stadium"}) + "\n")
    words = [f"recipe={engine_run.recipe}", f"data.unlabelled={more}", "prune=null", "quantize=null"]
    done = cli("compress", *words, "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    cached = {stage["name"]: stage["cached"] for stage in json.loads(done.stdout)["stages"]}
    assert cached["finetune"]
    assert not cached["vocabulary"] and not cached["general"]
