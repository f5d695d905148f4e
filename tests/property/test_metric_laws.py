"""Laws that every interval and test statistic keeps, whatever the rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgetf.core.metrics import accuracy_drop, compare_with_teacher, macro_f1, mcnemar, proportion, softmax, wilson

often = settings(max_examples=80, deadline=None)
pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


@often
@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_holds_the_share_and_stays_within_0_and_1(n: int, share: float) -> None:
    hits = round(n * share)
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1


@often
@given(n=st.integers(1, 2000), share=st.floats(0, 1))
def test_wilson_of_the_misses_mirrors_that_of_the_hits(n: int, share: float) -> None:
    hits = round(n * share)
    low, high = wilson(hits, n)
    mirrored_low, mirrored_high = wilson(n - hits, n)
    assert abs(low - (1 - mirrored_high)) < 1e-9
    assert abs(high - (1 - mirrored_low)) < 1e-9


@often
@given(a=st.integers(0, 700), b=st.integers(0, 700))
def test_mcnemar_is_a_probability_and_symmetric(a: int, b: int) -> None:
    p = mcnemar(a, b)
    assert 0 <= p <= 1
    assert p == mcnemar(b, a)


@often
@given(a=st.integers(0, 400), b=st.integers(0, 400))
def test_mcnemar_falls_as_the_difference_grows(a: int, b: int) -> None:
    less, more = sorted((a, b))
    assert mcnemar(less, more + 2) <= mcnemar(less, more) + 1e-12


@often
@given(rows=pairs)
def test_drop_interval_holds_its_value(rows: list[tuple[bool, bool]]) -> None:
    reference, candidate = (np.array(column) for column in zip(*rows, strict=True))
    drop = accuracy_drop(reference, candidate)
    assert drop.value is not None and drop.ci95 is not None
    assert drop.ci95[0] <= drop.value <= drop.ci95[1]
    assert drop.n == len(rows)


@often
@given(rows=pairs)
def test_drop_turns_its_sign_when_the_models_change_places(rows: list[tuple[bool, bool]]) -> None:
    reference, candidate = (np.array(column) for column in zip(*rows, strict=True))
    there, back = accuracy_drop(reference, candidate), accuracy_drop(candidate, reference)
    assert there.value is not None and back.value is not None
    assert there.ci95 is not None and back.ci95 is not None
    assert there.value == -back.value
    assert np.allclose(there.ci95, (-back.ci95[1], -back.ci95[0]))


@often
@given(rows=pairs)
def test_drop_is_the_difference_of_the_accuracies(rows: list[tuple[bool, bool]]) -> None:
    reference, candidate = (np.array(column) for column in zip(*rows, strict=True))
    before, after = proportion("accuracy", reference).value, proportion("accuracy", candidate).value
    drop = accuracy_drop(reference, candidate).value
    assert before is not None and after is not None and drop is not None
    assert abs(drop - (before - after)) < 1e-12


@often
@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60), seed=st.integers(0, 9))
def test_order_of_the_rows_does_not_matter(rows: list[tuple[int, int]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    predicted, labels = (np.array(column) for column in zip(*rows, strict=True))
    teacher = (labels + 1) % 4
    there = compare_with_teacher(predicted, teacher, labels, 4)
    assert there == compare_with_teacher(predicted[order], teacher[order], labels[order], 4)


@often
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_macro_f1_is_one_for_the_right_answers_only(labels: list[int]) -> None:
    right = np.array(labels)
    assert macro_f1(right, right, 5).value == 1.0
    wrong = macro_f1((right + 1) % 5, right, 5).value
    assert wrong == 0.0


@often
@given(logits=arrays(np.float64, (4, 3), elements=st.floats(-50, 50)), shift=st.floats(-1e3, 1e3))
def test_softmax_does_not_feel_a_shift(logits: np.ndarray, shift: float) -> None:
    assert np.allclose(softmax(logits), softmax(logits + shift), atol=1e-9)
    assert np.allclose(softmax(logits).sum(axis=1), 1)
