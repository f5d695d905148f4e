"""Shared fixtures: the CLI as a user starts it, and one small but real run that many tests look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of this test session's own."""
    return tmp_path_factory.mktemp("cache")


def environment(cache: Path) -> dict[str, str]:
    """What the CLI runs with: its own cache, one thread, no hub."""
    return {**os.environ, "EDGETF_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session")
def cli(cache: Path) -> Cli:
    """Run ``edgetf WORDS`` as a subprocess."""

    def run(*words: object, stdin: str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edgetf", *map(str, words)],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            env=environment(cache),
            cwd=cwd,
            timeout=300,
        )

    return run


@dataclass(frozen=True)
class Tiny:
    """A tiny teacher, its data and its recipe."""

    recipe: Path
    teacher: Path
    data: Path

    def with_(self, path: Path, **changes: Any) -> Path:
        """The recipe with other top-level fields, written to `path`."""
        tree = {**yaml.safe_load(self.recipe.read_text()), **changes}
        path.write_text(yaml.safe_dump(tree))
        return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A two-layer BERT without training, 240 rows in three classes, and a recipe with every stage."""
    pytest.importorskip("torch", reason="needs edgetf[compress]")
    from tiny import tiny_classifier, tiny_rows

    folder = tmp_path_factory.mktemp("tiny")
    rows = tiny_rows(240, seed=0)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    labels = sorted({label for _, label in rows})
    teacher = folder / "teacher"
    teacher.mkdir()
    tiny_classifier("bert", teacher, labels)
    training = {"epochs": 10, "batch_size": 16, "learning_rate": 0.005, "threads": 1}
    recipe = folder / "tiny.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "teacher": {"source": str(teacher)},
                "data": {"source": str(data), "max_length": 16, "split": {"dev": 0.15, "test": 0.3, "seed": 0}},
                "student": {"architecture": "teacher", "num_hidden_layers": 1},
                "stages": [
                    {"stage": "finetune", **training},
                    {"stage": "distill", **training, "relations": 0.5, "relation_heads": 4},
                    {"stage": "prune", **training, "ffn_ratio": 0.5, "head_ratio": 0.5, "round_to": 8},
                    {"stage": "export", "formats": ["onnx", "tflite"], "seq_lens": [8, 16]},
                    {"stage": "quantize"},
                ],
                "budget": {"accuracy_drop": 0.2},
                "validation": {"samples": 30},
            }
        )
    )
    return Tiny(recipe, teacher, data)


@dataclass(frozen=True)
class TinyRun:
    """A finished run of the tiny recipe."""

    folder: Path
    report: dict[str, Any]
    stderr: str
    recipe: Path


@pytest.fixture(scope="session")
def tiny_run(cli: Cli, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """``edgetf compress`` once, for all tests that look at its result."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    done = cli("compress", f"recipe={tiny.recipe}", "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    return TinyRun(out, json.loads(done.stdout), done.stderr, tiny.recipe)
