"""The evaluation rows travel with the teacher's logits, and a teacher that knows nothing is no yardstick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetf.core.errors import ArtifactError
from edgetf.validation.evaluation import EVALUATION, Evaluation, read_evaluation, write_evaluation


def rows(labels: list[int], decisions: list[int], classes: int = 3, pairs: bool = False) -> Evaluation:
    n = len(labels)
    texts = [f"text {k}" for k in range(n)]
    return Evaluation(texts, texts[::-1] if pairs else None, np.array(labels), np.eye(classes)[decisions] * 2.0)


@pytest.mark.parametrize("pairs", [False, True])
def test_rows_round_trip(tmp_path: Path, pairs: bool) -> None:
    before = rows([0, 1, 2, 1], [0, 1, 2, 0], pairs=pairs)
    write_evaluation(tmp_path, before)
    after = read_evaluation(tmp_path)
    assert (after.texts, after.pairs) == (before.texts, before.pairs)
    assert np.array_equal(after.labels, before.labels)
    assert np.array_equal(after.teacher_logits, before.teacher_logits)
    assert after.classes == 3
    assert after.teacher.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    "strange", ["\n", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x1c", '"', "\x00", "🎉"], ids=ascii
)
def test_a_text_of_any_kind_is_one_row(tmp_path: Path, strange: str) -> None:
    before = Evaluation([f"a{strange}b", strange], [strange, "c"], np.array([0, 1]), np.eye(2))
    write_evaluation(tmp_path, before)
    after = read_evaluation(tmp_path)
    assert (after.texts, after.pairs) == (before.texts, before.pairs)


def test_a_teacher_that_beats_the_most_frequent_class_is_a_baseline() -> None:
    labels = [0, 1, 2] * 20
    assert rows(labels, labels).baseline_problem() is None


@pytest.mark.parametrize(
    ("labels", "decisions"),
    [
        ([0, 1, 2] * 20, [0] * 60),
        ([0] * 90 + [1] * 10, [0] * 100),
        ([0] * 90 + [1] * 10, [0] * 98 + [1] * 2),
        ([0, 0, 1], [0, 0, 1]),
    ],
    ids=["constant", "majority", "barely", "too few rows to tell"],
)
def test_a_teacher_that_does_not_is_named_with_its_numbers(labels: list[int], decisions: list[int]) -> None:
    problem = rows(labels, decisions).baseline_problem()
    assert problem is not None
    assert problem.startswith("baseline: the teacher's accuracy")
    assert f"on {len(labels)} rows" in problem


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]\n",
        b"3\n",
        b'{"text": "a"}\n',
        b'{"text": "a", "label": "x", "teacher_logits": [1]}\n',
        b'{"text": "a", "label": 0, "teacher_logits": [1, 2]}\n{"text": "b", "label": 0, "teacher_logits": [1]}\n',
        b"\xff\xfe",
    ],
    ids=repr,
)
def test_a_broken_file_is_an_artifact_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / EVALUATION).write_bytes(content)
    with pytest.raises(ArtifactError, match="run the recipe again"):
        read_evaluation(tmp_path)


def test_a_missing_file_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"{EVALUATION}: cannot be read"):
        read_evaluation(tmp_path)
