"""Rows for calibration: of every class and length, as many as asked for, always the same, and never held-out ones."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cli
from tiny import LABELS, tiny_classifier, tiny_dataset, tiny_rows

from edgetf.config.data import DataConfig
from edgetf.config.load import load_recipe
from edgetf.config.quantization import CalibrationConfig
from edgetf.core.errors import ConfigError, DataError
from edgetf.data.calibration import calibration_rows, sample
from edgetf.data.dataset import Split
from edgetf.pipeline.plan import make_plan

DATA = tiny_dataset()
NOWHERE = DataConfig(source="somewhere.csv")


def rows_of(seed: int = 0, **settings: Any) -> Split:
    return calibration_rows(CalibrationConfig(**settings), DATA, NOWHERE, "sequence_classification", seed)


class TestStrata:
    @pytest.mark.parametrize("count", [1, 2, 12, 13, 47, 191])
    def test_exactly_as_many_as_asked_for(self, count: int) -> None:
        rows = rows_of(rows=count)
        assert len(rows) == len(set(rows.texts)) == count

    @pytest.mark.parametrize("count", [192, 193, 100_000])
    def test_more_than_there_are_is_all(self, count: int) -> None:
        assert rows_of(rows=count).texts == DATA.train.texts

    def test_every_class_has_its_share(self) -> None:
        assert Counter(rows_of(rows=48).labels) == {0: 16, 1: 16, 2: 16}

    def test_every_class_has_the_share_that_it_has(self) -> None:
        """A hundred of one class and twenty of another, not ten of each."""
        groups, lengths = [0] * 100 + [1] * 20, [7] * 120
        chosen = sample(groups, lengths, 12, seed=0)
        assert Counter(groups[k] for k in chosen) == {0: 10, 1: 2}

    def test_a_rare_class_is_not_left_out(self) -> None:
        groups = [0] * 990 + [1] * 7 + [2] * 3
        assert Counter(groups[k] for k in sample(groups, [1] * 1000, 32, seed=0)) == {0: 30, 1: 1, 2: 1}

    def test_every_length_is_there_in_every_class(self) -> None:
        rows = rows_of(rows=48)
        for label in range(len(LABELS)):
            whole = [text for text, other in zip(DATA.train.texts, DATA.train.labels, strict=True) if other == label]
            mine = [text for text, other in zip(rows.texts, rows.labels, strict=True) if other == label]
            lengths = [len(text) for text in mine]
            assert min(lengths) <= sorted(map(len, whole))[len(whole) // 4]
            assert max(lengths) >= sorted(map(len, whole))[len(whole) * 3 // 4]

    def test_each_quarter_of_the_lengths_has_its_share(self) -> None:
        chosen = sample([0] * 400, list(range(400)), 40, seed=3)
        assert Counter(k // 100 for k in chosen) == {0: 10, 1: 10, 2: 10, 3: 10}

    @pytest.mark.parametrize("size", range(1, 9))
    def test_a_class_of_few_rows_is_no_problem(self, size: int) -> None:
        chosen = sample([0] * 50 + [1] * size, [1] * (50 + size), 25, seed=0)
        assert len(set(chosen)) == 25


class TestSeed:
    def test_the_same_gives_the_same_rows(self) -> None:
        assert rows_of(seed=5, rows=30) == rows_of(seed=5, rows=30)

    def test_another_gives_others(self) -> None:
        assert rows_of(seed=5, rows=30) != rows_of(seed=6, rows=30)


class TestHeldOut:
    def test_none_is_taken(self) -> None:
        rows = set(rows_of(rows=192).texts)
        assert not rows & set(DATA.dev.texts) and not rows & set(DATA.test.texts)

    @pytest.mark.parametrize(("use", "named"), [("dev", "dev"), ("test", "evaluation")])
    def test_training_rows_among_them_are_refused(self, use: str, named: str) -> None:
        leaky = replace(DATA, **{use: DATA.train.select([3])})
        with pytest.raises(DataError, match=f"1 of 192 calibration rows also stand in the {named} rows"):
            calibration_rows(CalibrationConfig(), leaky, NOWHERE, "sequence_classification", 0)

    def test_a_source_is_read_without_labels(self, tmp_path: Path) -> None:
        source = write_texts(tmp_path / "more.jsonl", [f"fresh words number {k}" for k in range(20)])
        rows = rows_of(rows=8, source=str(source))
        assert len(rows) == 8
        assert all(text.startswith("fresh words") for text in rows.texts)

    @pytest.mark.parametrize(("use", "named"), [("dev", "dev"), ("test", "evaluation")])
    @pytest.mark.parametrize("change", [str, str.upper, "  {} ".format], ids=["same", "case", "space"])
    def test_a_source_that_holds_one_of_them_is_refused(
        self, use: str, named: str, change: Any, tmp_path: Path
    ) -> None:
        held_out = getattr(DATA, use).texts[4]
        texts = [*(f"fresh words number {k}" for k in range(20)), change(held_out)]
        source = write_texts(tmp_path / "more.jsonl", texts)
        with pytest.raises(DataError, match=f"1 of 21 calibration rows also stand in the {named} rows, e.g. ") as found:
            rows_of(rows=4, source=str(source))
        assert found.value.exit_code == 2

    def test_an_empty_source_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError):
            rows_of(source=str(write_texts(tmp_path / "none.jsonl", [])))


def write_texts(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose calibration source, beside fresh texts, is all of its own data: held-out rows too."""
    folder = tmp_path_factory.mktemp("leak")
    tiny_classifier("bert", folder / "teacher")
    rows = tiny_rows(120)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": t, "label": v}) + "\n" for t, v in rows))
    write_texts(folder / "leak.jsonl", [*(f"fresh words number {k}" for k in range(20)), *(text for text, _ in rows)])
    write_texts(folder / "fresh.jsonl", [f"fresh words number {k}" for k in range(20)])
    quantize = {"stage": "quantize", "schemes": ["w8a8"], "calibration": {"source": str(folder / "leak.jsonl")}}
    tree = {
        "teacher": {"source": str(folder / "teacher")},
        "data": {"source": str(folder / "rows.jsonl"), "max_length": 16},
        "stages": [{"stage": "export", "formats": ["onnx"]}, quantize],
    }
    (folder / "leak.yaml").write_text(yaml.safe_dump(tree))
    return folder / "leak.yaml"


def test_a_leak_is_found_before_any_work(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="calibration rows also stand in the") as found:
        make_plan(load_recipe(str(recipe)))
    assert found.value.exit_code == 2


def test_a_source_without_a_leak_is_planned(recipe: Path) -> None:
    words = [f"quantize.calibration.source={recipe.parent / 'fresh.jsonl'}"]
    assert make_plan(load_recipe(str(recipe), words)).recipe.variant_names() == ["onnx-fp32", "onnx-w8a8"]


def test_a_leak_on_the_command_line(cli: Cli, recipe: Path, tmp_path: Path) -> None:
    fresh, leak = recipe.parent / "fresh.jsonl", recipe.parent / "leak.jsonl"
    words = ["compress", f"recipe={recipe}", "--out", tmp_path / "run"]
    done = cli(*words, f"quantize.calibration.source={leak}")
    assert done.returncode == 2
    assert "calibration rows also stand in the" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()  # nothing was begun
    assert cli(*words, f"quantize.calibration.source={fresh}", "--dry-run").returncode == 0
