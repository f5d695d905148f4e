"""A language model through the CLI: text files in, a teacher and its student, files that write out."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cli

from edgetf.core.artifact import open_verified
from edgetf.pipeline.run import artifacts_in

pytestmark = pytest.mark.slow
VARIANTS = ["onnx-fp32", "onnx-w4", "onnx-w8"]
WHO, DOES, WHAT = (
    ("The minister", "A farmer", "Our team", "The bank"),
    ("sold", "lost", "praised"),
    ("oil", "a cup", "land"),
)


@dataclass(frozen=True)
class LanguageRun:
    """A finished run of a tiny recipe."""

    folder: Path
    report: dict[str, Any]
    recipe: Path
    stderr: str


def documents(folder: Path) -> None:
    """Sixty texts of a language that a tiny model can learn."""
    rng = random.Random(0)
    folder.mkdir()
    for number in range(60):
        said = [f"{rng.choice(WHO)} {rng.choice(DOES)} {rng.choice(WHAT)}." for _ in range(60)]
        (folder / f"{number}.txt").write_text(f"Number {number}. " + " ".join(said))


@pytest.fixture(scope="module")
def run(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> LanguageRun:
    """``edgetf compress`` once, for all tests that look at its result."""
    place = tmp_path_factory.mktemp("language")
    documents(place / "texts")
    shape = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    training = {"batch_size": 8, "threads": 1}
    teacher = {"hidden_size": 48, "num_hidden_layers": 2, "intermediate_size": 96, **shape}
    student = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, **shape}
    tree = {
        "task": "language_modeling",
        "teacher": {**teacher, "tokenizer": {"vocab_size": 320}},
        "data": {"sources": [str(place / "texts")], "max_length": 64, "max_dev_tokens": 1000, "max_test_tokens": 2000},
        "student": {"architecture": "tinygpt", **student},
        "stages": [
            {"stage": "pretrain", "steps": 120, "learning_rate": 0.01, **training},
            {"stage": "distill", "steps": 80, "learning_rate": 0.01, **training},
            {"stage": "export"},
            {"stage": "quantize"},
        ],
        "validation": {"contexts": [8, 16, 32], "samples": 30},
        "budget": {"perplexity_ratio": 2.0, "size_ratio": 1.5},
    }  # fmt: skip
    recipe = place / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(tree))
    done = cli("compress", f"recipe={recipe}", "--out", place / "run", "--json")
    assert done.returncode == 0, done.stderr
    return LanguageRun(place / "run", json.loads(done.stdout), recipe, done.stderr)


def test_report_keeps_the_contract(run: LanguageRun) -> None:
    report = run.report
    wanted = {"schema", "recipe", "run", "seconds", "made", "verdict", "budget", "teacher", "stages", "variants"}
    assert wanted <= set(report)
    assert report["verdict"] == "pass"
    assert [stage["name"] for stage in report["stages"]] == ["pretrain", "distill", "export", "quantize"]
    assert sorted(variant["name"] for variant in report["variants"]) == VARIANTS
    assert json.loads((run.folder / "report.json").read_text()) == report


def test_every_variant_is_measured_on_its_file(run: LanguageRun) -> None:
    names = {"perplexity", "perplexity_ratio", "bits_per_byte", "kl", "kl_p99", "flip_rate"}
    for variant in run.report["variants"]:
        found = {metric["name"]: metric for metric in variant["metrics"]}
        assert names <= set(found)
        assert 1 < found["perplexity"]["value"] < 320
        row = variant["devices"][0]
        assert [entry["context"] for entry in row["decoding"]] == [8, 16, 32]
        assert row["n"] == len(row["samples_ms"]) >= 30
        assert row["reference"]["name"] == "teacher-onnx-fp32"
        assert row["peak_rss_bytes"] > 0


def test_eight_bits_lose_less_than_a_hundredth(run: LanguageRun) -> None:
    perplexities = {
        variant["name"]: next(metric["value"] for metric in variant["metrics"] if metric["name"] == "perplexity")
        for variant in run.report["variants"]
    }
    assert perplexities["onnx-w8"] == pytest.approx(perplexities["onnx-fp32"], rel=0.01)
    assert perplexities["onnx-w4"] == pytest.approx(perplexities["onnx-fp32"], rel=0.1)


def test_every_artifact_is_whole(run: LanguageRun) -> None:
    for artifact in artifacts_in(run.folder):
        open_verified(artifact.path)
    assert not list(run.folder.glob("*.partial"))


def test_the_second_run_reuses_everything(run: LanguageRun, cli: Cli) -> None:
    done = cli("compress", f"recipe={run.recipe}", "--out", run.folder, "--json")
    assert done.returncode == 0, done.stderr
    assert all(stage["cached"] for stage in json.loads(done.stdout)["stages"])


def test_the_deployed_folder_writes_and_is_judged(run: LanguageRun, cli: Cli) -> None:
    folder = run.folder / "onnx-w4"
    said = cli("infer", folder, "The minister", "--greedy", "--max-new-tokens", "8")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("The minister")
    kept = cli("validate", folder, "--budget", "perplexity_ratio=2", "--json")
    assert kept.returncode == 0, kept.stderr
    missed = cli("validate", folder, "--budget", "perplexity=1")
    assert missed.returncode == 1
    assert "perplexity" in missed.stdout


def test_plan_tells_both_sizes_and_starts_nothing(run: LanguageRun, cli: Cli, tmp_path: Path) -> None:
    done = cli("compress", f"recipe={run.recipe}", "--out", tmp_path / "none", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "teacher" in done.stdout and "student" in done.stdout and "nothing was started" in done.stdout
    assert not (tmp_path / "none").exists()


def test_a_student_larger_than_its_teacher_is_refused(run: LanguageRun, cli: Cli) -> None:
    done = cli("compress", f"recipe={run.recipe}", "student.num_hidden_layers=9", "--dry-run")
    assert done.returncode == 2
    assert "make it smaller" in done.stderr


def test_what_a_cache_of_bytes_is_compared_with_has_one_of_floats(run: LanguageRun, cli: Cli, tmp_path: Path) -> None:
    done = cli("compress", f"recipe={run.recipe}", "export.kv_cache=int8", "quantize=null", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    caches = {
        name: open_verified(tmp_path / "run" / name).spec.details["decoder"]["kv_cache"]
        for name in ("teacher-onnx-fp32", "onnx-fp32")
    }
    assert caches == {"teacher-onnx-fp32": "fp32", "onnx-fp32": "int8"}
