"""What is written into golden and evaluation rows comes back, and a file always answers as itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgetf.core.metrics import Metric
from edgetf.runtime.inputs import Piece
from edgetf.validation.evaluation import Evaluation, read_evaluation, write_evaluation
from edgetf.validation.golden import read_golden, same_file_parity, torch_parity, write_golden
from edgetf.validation.judge import judged
from edgetf.validation.row import DeviceRow, row_from_json

often = settings(max_examples=60, deadline=None)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
text_rows = st.lists(texts, min_size=1, max_size=6)
logits = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-30, 30))


@often
@given(given_texts=text_rows, paired=st.booleans(), data=st.data())
def test_evaluation_rows_round_trip(given_texts: list[str], paired: bool, data: st.DataObject) -> None:
    n = len(given_texts)
    teacher = data.draw(arrays(np.float64, (n, 3), elements=st.floats(-30, 30)))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    before = Evaluation(given_texts, given_texts[::-1] if paired else None, labels, teacher)
    with tempfile.TemporaryDirectory() as folder:
        write_evaluation(Path(folder), before)
        after = read_evaluation(Path(folder))
    assert (after.texts, after.pairs) == (before.texts, before.pairs)
    assert np.array_equal(after.labels, labels)
    assert np.allclose(after.teacher_logits, teacher, atol=1e-6)


@often
@given(given_texts=text_rows, paired=st.booleans())
def test_golden_rows_round_trip(given_texts: list[str], paired: bool) -> None:
    n = len(given_texts)
    answers = np.arange(2.0 * n).reshape(n, 2) / 7
    pieces = [[Piece([1, 2], [0, 0])]] * n
    with tempfile.TemporaryDirectory() as folder:
        write_golden(Path(folder), given_texts, given_texts if paired else None, pieces, answers, answers + 1)
        golden = read_golden(Path(folder))
    assert (golden.texts, golden.pairs) == (given_texts, given_texts if paired else None)
    assert np.array_equal(golden.torch_logits, answers)
    assert np.array_equal(golden.logits, answers + 1)


@often
@given(answers=logits, scheme=st.sampled_from(["fp32", "w8a8_dynamic"]))
def test_a_file_that_answers_the_same_has_parity(answers: np.ndarray, scheme: str) -> None:
    assert same_file_parity(scheme, answers, answers.copy()) is None


@often
@given(answers=logits)
def test_fp32_logits_have_parity_with_themselves(answers: np.ndarray) -> None:
    assert torch_parity("m", "fp32", answers, answers.copy())["max_abs_difference"] == 0


numbers = st.none() | st.floats(0.01, 100)


@often
@given(
    speedup=numbers,
    drop=st.none() | st.floats(-1, 1),
    size=st.none() | st.integers(1, 10**9),
    problems=st.lists(st.sampled_from(["parity: moved", "baseline: weak"]), max_size=1),
    trusted=st.none() | st.booleans(),
    budget=st.dictionaries(st.sampled_from(["speedup", "accuracy_drop", "size_mib", "size_ratio"]), st.floats(0, 1)),
)
def test_judging_twice_is_judging_once(
    speedup: float | None,
    drop: float | None,
    size: int | None,
    problems: list[str],
    trusted: bool | None,
    budget: dict[str, float],
) -> None:
    row = DeviceRow("host", speedup=speedup, size_bytes=size, problems=problems, trusted=trusted)
    row.metrics = [Metric("accuracy_drop", drop).to_json()]
    once = judged(row, budget)
    assert judged(once, budget) == once
    assert row_from_json(vars(once)) == once
    assert (once.verdict == "fail") >= bool(problems)
    if once.verdict == "pass":
        assert all(check["verdict"] == "pass" for check in once.checks)
        assert len(once.checks) == len(budget)


def test_parity_is_not_a_matter_of_the_sign_of_zero() -> None:
    zero = np.zeros((2, 2))
    assert torch_parity("m", "fp32", zero, -zero)["max_abs_difference"] == pytest.approx(0)
