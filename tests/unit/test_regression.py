"""Regression: labels are numbers, metrics say how near and how well ordered the answers are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FAMILY_NAMES, tiny_classifier, write_csv

from edgetf.config.data import DataConfig
from edgetf.config.recipe import Recipe
from edgetf.config.training import LossConfig
from edgetf.core.budget import task_problems
from edgetf.core.errors import DataError
from edgetf.core.metrics import Metric
from edgetf.data.dataset import Dataset, load_dataset
from edgetf.models.checkpoint import load_classifier, save_classifier
from edgetf.models.heads import Head, has_head
from edgetf.tasks import task_of
from edgetf.training.lessons import known_labels, label_loss, probe_loss, teacher_terms
from edgetf.training.teacher import SoftTargets
from edgetf.validation.evaluation import Evaluation, read_evaluation, write_evaluation
from edgetf.validation.golden import same_file_parity

TASK = task_of("regression")
HEAD = Head("regression")
LABELS = np.array([0.0, 1.0, 2.0, 5.0])
TEACHER = np.array([[0.5], [1.0], [2.5], [4.0]])


def compared(answers: list[float]) -> dict[str, Metric]:
    found = TASK.compare(np.array(answers)[:, None], TEACHER, LABELS, ["score"])
    return {metric.name: metric for metric in found}


class TestMetrics:
    def test_errors_by_hand(self) -> None:
        found = compared([1.0, 1.0, 2.0, 3.0])
        assert found["mse"].value == pytest.approx((1 + 4) / 4)
        assert found["rmse"].value == pytest.approx(math.sqrt(5 / 4))
        assert found["mse"].unit == "label²"
        assert all(metric.n == 4 for metric in found.values())

    def test_a_perfect_model(self) -> None:
        found = compared([0.0, 1.0, 2.0, 5.0])
        assert found["pearson"].value == pytest.approx(1)
        assert found["spearman"].value == pytest.approx(1)
        assert found["mse"].value == 0

    def test_the_teacher_loses_nothing_against_itself(self) -> None:
        drop = compared(TEACHER[:, 0].tolist())["pearson_drop"]
        assert drop.value == 0
        assert drop.ci95 == (0, 0)

    def test_the_drop_is_that_of_the_correlations(self) -> None:
        found = compared([5.0, 1.0, 2.0, 0.0])
        teacher = compared(TEACHER[:, 0].tolist())["pearson"].value or 0.0
        assert found["pearson_drop"].value == pytest.approx(teacher - (found["pearson"].value or 0.0))

    def test_a_constant_answer_is_not_measured(self) -> None:
        found = compared([1.0] * 4)
        assert found["pearson"].value is None
        assert found["pearson"].ci95 is None
        assert found["pearson_drop"].value is None
        assert TASK.score(np.ones((4, 1)), LABELS, []) == 0

    def test_paired_intervals_are_narrower(self) -> None:
        """A model that errs as its teacher does has an interval of its drop that is narrower than either's own."""
        rng = np.random.default_rng(0)
        labels = rng.normal(size=200)
        teacher = labels + rng.normal(size=200)
        answers = teacher + 0.05 * rng.normal(size=200)
        found = {m.name: m for m in TASK.compare(answers[:, None], teacher[:, None], labels, [])}
        drop, own = found["pearson_drop"].ci95, found["pearson"].ci95
        assert drop is not None and own is not None
        assert drop[1] - drop[0] < 0.3 * (own[1] - own[0])


class TestFloor:
    LABELS = np.linspace(0, 5, 100)

    def test_a_good_teacher_beats_the_mean(self) -> None:
        assert TASK.floor(self.LABELS[:, None] + 0.3, self.LABELS, []) is None

    @pytest.mark.parametrize("scale", [0.0, 0.2], ids=["constant", "another scale"])
    def test_a_teacher_that_does_not(self, scale: float) -> None:
        problem = TASK.floor(scale * self.LABELS[:, None], self.LABELS, []) or ""
        assert "does not beat that of the labels' mean" in problem
        assert "on 100 rows" in problem

    def test_luck_is_no_proof(self) -> None:
        labels = np.array([0.0, 1.0, 0.5])
        assert TASK.floor(np.array([[0.4], [0.6], [0.5]]) + 3, labels, []) is not None


def data_of(folder: Path, rows: list[tuple[str, str]], **more: Any) -> Dataset:
    return load_dataset(DataConfig(source=str(write_csv(folder / "rows.csv", rows)), **more), "regression")


class TestLabels:
    def test_are_numbers(self, tmp_path: Path) -> None:
        rows = [(f"text {k}", f" {k / 2} ") for k in range(20)]
        data = data_of(tmp_path, rows)
        assert data.label_names == ["score"]
        assert (len(data.train), len(data.dev), len(data.test)) == (14, 2, 4)
        known = dict(zip(data.train.texts, data.train.labels, strict=True))
        assert known["text 3" if "text 3" in known else next(iter(known))] in {k / 2 for k in range(20)}

    @pytest.mark.parametrize("label", ["much", "nan", "inf", "1,5"])
    def test_must_be_finite_numbers(self, tmp_path: Path, label: str) -> None:
        rows = [(f"text {k}", str(k)) for k in range(5)] + [("bad", label)]
        with pytest.raises(DataError, match="1 of 6 labels are no finite number"):
            data_of(tmp_path, rows)

    def test_must_differ(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="every label is 3; there is nothing to learn"):
            data_of(tmp_path, [(f"text {k}", "3") for k in range(5)])

    def test_few_rows(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="there are 2 rows, needed are 3"):
            data_of(tmp_path, [("a", "1"), ("b", "2")])

    def test_unlabelled_texts_have_no_number(self, tmp_path: Path) -> None:
        more = tmp_path / "more.jsonl"
        more.write_text(json.dumps({"text": "new"}) + "\n")
        data = data_of(tmp_path, [(f"text {k}", str(k)) for k in range(9)], unlabelled=str(more))
        assert data.unlabelled is not None
        assert math.isnan(data.unlabelled.labels[0])


class TestLessons:
    ANSWERS = torch.tensor([[1.0], [2.0], [4.0]])

    def test_labels_by_the_mean_square(self) -> None:
        assert label_loss("regression", self.ANSWERS, torch.tensor([1.0, 3.0, 2.0])).item() == pytest.approx(5 / 3)

    def test_a_row_without_a_label_is_left_out(self) -> None:
        target, known = known_labels("regression", self.ANSWERS, torch.tensor([1.0, math.nan, -100.0]))
        assert known.tolist() == [True, False, True]
        assert target[known].tolist() == [1.0, -100.0]

    def test_the_teacher_by_the_mean_square(self) -> None:
        targets = SoftTargets(np.array([[9.0], [1.0], [2.0], [3.0]], np.float32), 2.0)
        terms = teacher_terms("regression", LossConfig(), self.ANSWERS, self.ANSWERS, targets, torch.tensor([1, 2, 3]))
        assert terms["logits"].item() == pytest.approx(1 / 3)

    def test_what_matters_is_what_moves_the_number(self) -> None:
        answers = self.ANSWERS.clone().requires_grad_()
        probe_loss("regression", answers, torch.tensor([1.0, 2.0, math.nan])).backward()
        assert answers.grad is not None
        assert answers.grad.tolist() == [[1.0]] * 3


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_head_of_one_number_reloads(family: str, tmp_path: Path) -> None:
    source = tiny_classifier(family, tmp_path / "source")
    model = load_classifier(source, ["score"], HEAD)
    ids = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        wanted = model(**ids).logits
    assert wanted.shape == (1, 1)
    save_classifier(model, tmp_path / "saved", source)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert has_head(config, HEAD)
    assert not has_head(json.loads((source / "config.json").read_text()), HEAD)
    with torch.no_grad():
        assert torch.equal(load_classifier(tmp_path / "saved", head=HEAD)(**ids).logits, wanted)


def test_evaluation_rows_round_trip(tmp_path: Path) -> None:
    before = Evaluation(["a", "b", "c", "d"], None, LABELS, TEACHER, "regression", ("score",))
    write_evaluation(tmp_path, before)
    after = read_evaluation(tmp_path, "regression", ["score"])
    assert np.array_equal(after.labels, before.labels)
    assert np.array_equal(after.teacher_logits, before.teacher_logits)
    assert after.compare(TEACHER) == before.compare(TEACHER)


def test_a_number_near_the_mean_may_change_its_side() -> None:
    golden = np.linspace(0, 1, 11)[:, None]
    assert same_file_parity("w8a8_dynamic", golden, golden + 0.001) is None
    assert same_file_parity("w8a8_dynamic", golden, golden[::-1]) is not None


def recipe_with(**changes: Any) -> Recipe:
    tree: dict[str, Any] = {
        "name": "r", "task": "regression", "teacher": {"source": "t"}, "data": {"source": "d.csv"},
        "stages": [{"stage": "distill"}, {"stage": "export"}],
    }  # fmt: skip
    return Recipe.model_validate({**tree, **changes})


def test_a_recipe_takes_the_budgets_of_its_task() -> None:
    assert recipe_with(budget={"pearson_drop": 0.01, "mse": 0.5, "size_ratio": 4}).budget["mse"] == 0.5
    with pytest.raises(ValueError, match="budget.accuracy_drop: not measured for regression; allowed: pearson_drop"):
        recipe_with(budget={"accuracy_drop": 0.01})
    assert task_problems({"pearson": 0.8}, "sequence_classification")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [{"stage": "distill", "top_k": 2}, {"stage": "export"}]}, "distill.top_k: it keeps classes"),
        (
            {"data": {"source": "d.csv", "unlabelled": "u.csv",
                      "labeller": {"endpoint": "http://127.0.0.1:1/v1", "model": "m"}}},
            "data.labeller: it names classes",
        ),
    ],
)  # fmt: skip
def test_what_needs_classes_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe_with(**changes)


def test_it_is_said_as_a_number() -> None:
    (said,) = TASK.say(["a text"], np.array([[2.34567]]), ["score"])
    assert said.record == {"text": "a text", "score": 2.34567}
    assert said.line == "2.346  a text"
