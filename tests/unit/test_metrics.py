"""Intervals and paired tests hold against another implementation of the same formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgetf.core.metrics import (
    Metric,
    accuracy_drop,
    compare_with_teacher,
    cosine,
    find_metric,
    macro_f1,
    mcnemar,
    percentile,
    proportion,
    ratio_interval,
    softmax,
    wilson,
)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (8, 10), (463, 780), (1, 10_000)])
def test_wilson_equals_scipy(hits: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    wanted = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_wilson_of_no_rows_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("a", "b"), [(0, 0), (0, 1), (1, 9), (9, 1), (5, 5), (30, 60), (480, 560), (0, 1500), (900, 700)]
)
def test_mcnemar_equals_the_binomial_test(a: int, b: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    wanted = stats.binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def test_mcnemar_does_not_jump_where_its_formula_changes() -> None:
    assert mcnemar(470, 529) == pytest.approx(mcnemar(471, 530), rel=0.02)


def test_proportion_of_no_rows_is_not_measured() -> None:
    metric = proportion("accuracy", np.zeros(0, dtype=bool))
    assert (metric.value, metric.n) == (None, 0)


def test_proportion_counts_and_keeps_its_n() -> None:
    metric = proportion("accuracy", np.array([True, True, False, True]))
    assert (metric.value, metric.n, metric.unit) == (0.75, 4, "fraction")
    assert metric.ci95 == pytest.approx(wilson(3, 4))


def test_drop_of_equal_models_is_zero_with_an_open_interval() -> None:
    right = np.array([True] * 90 + [False] * 10)
    drop = accuracy_drop(right, right)
    assert drop.value == 0.0
    assert drop.ci95 is not None
    assert drop.ci95[0] < 0 < drop.ci95[1]


def test_drop_of_no_rows_is_not_measured() -> None:
    none = np.zeros(0, dtype=bool)
    assert accuracy_drop(none, none).value is None


def test_drop_has_the_sign_of_a_loss() -> None:
    assert accuracy_drop(np.array([True, True]), np.array([True, False])).value == 0.5
    assert accuracy_drop(np.array([True, False]), np.array([True, True])).value == -0.5


def test_drop_interval_is_that_of_agresti_and_min() -> None:
    reference = np.array([True] * 50 + [False] * 50)
    candidate = reference.copy()
    candidate[:12] = False  # right before, wrong now
    candidate[50:55] = True  # wrong before, right now
    drop = accuracy_drop(reference, candidate)
    b, c, m = 12.5, 5.5, 102
    half = 1.959964 * math.sqrt((b + c) - (b - c) ** 2 / m) / m
    assert drop.value == pytest.approx(0.07)
    assert drop.ci95 == pytest.approx(((b - c) / m - half, (b - c) / m + half), abs=1e-6)


@pytest.mark.parametrize(("both", "lost", "gained"), [(0.85, 0.05, 0.03), (0.6, 0.2, 0.05), (0.93, 0.02, 0.01)])
def test_drop_interval_covers_the_truth(both: float, lost: float, gained: float) -> None:
    rng = np.random.default_rng(7)
    n, rounds, hits = 400, 500, 0
    for _ in range(rounds):
        kind = rng.choice(4, size=n, p=[both, lost, gained, 1 - both - lost - gained])
        drop = accuracy_drop((kind == 0) | (kind == 1), (kind == 0) | (kind == 2))
        assert drop.ci95 is not None
        hits += drop.ci95[0] <= lost - gained <= drop.ci95[1]
    assert hits / rounds >= 0.92


def test_macro_f1_leaves_out_a_class_that_never_occurs() -> None:
    predicted, labels = np.array([0, 0, 1]), np.array([0, 0, 1])
    assert macro_f1(predicted, labels, classes=5).value == 1.0


def test_macro_f1_counts_a_class_that_is_never_found() -> None:
    assert macro_f1(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]), 2).value == pytest.approx((6 / 7 + 0) / 2)


def test_macro_f1_of_no_rows_is_not_measured() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert macro_f1(none, none, 3).value is None


def test_comparison_names_every_metric_once() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    teacher = np.array([0, 1, 2, 0, 1, 0])
    predicted = np.array([0, 1, 2, 0, 2, 0])
    metrics = compare_with_teacher(predicted, teacher, labels, 3)
    values = {metric.name: metric.value for metric in metrics}
    assert list(values) == ["accuracy", "accuracy_drop", "agreement", "macro_f1", "mcnemar_p"]
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert values["accuracy_drop"] == pytest.approx(1 / 6)
    assert values["agreement"] == pytest.approx(5 / 6)
    assert values["mcnemar_p"] == 1.0
    assert {metric.n for metric in metrics} == {6}


def test_metric_round_trips_through_json() -> None:
    for metric in (Metric("accuracy", 0.9, n=10, ci95=(0.8, 0.95)), Metric("x", None, unit="ms")):
        assert Metric.from_json(metric.to_json()) == metric


def test_find_metric_gives_none_for_what_is_not_there() -> None:
    metrics = [Metric("accuracy", 0.9), Metric("agreement", 0.8)]
    assert find_metric(metrics, "agreement") is metrics[1]
    assert find_metric(metrics, "perplexity") is None


def test_percentile_interpolates() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([3.0, 1.0, 2.0], 100) == 3.0


def test_ratio_interval_of_constant_times_is_their_ratio() -> None:
    assert ratio_interval([4.0] * 30, [2.0] * 30) == pytest.approx((2.0, 2.0))


def test_ratio_interval_holds_the_ratio_of_medians_and_repeats() -> None:
    rng = np.random.default_rng(3)
    slow, fast = (8 + rng.gamma(2, 0.3, 60)).tolist(), (2 + rng.gamma(2, 0.1, 60)).tolist()
    low, high = ratio_interval(slow, fast)
    assert low < np.median(slow) / np.median(fast) < high
    assert (low, high) == ratio_interval(slow, fast)


def test_softmax_rows_sum_to_one_also_for_large_logits() -> None:
    share = softmax(np.array([[1000.0, 1000.0], [0.0, -1000.0], [1.0, 2.0]]))
    assert share.sum(axis=1) == pytest.approx([1, 1, 1])
    assert share[0] == pytest.approx([0.5, 0.5])
    assert share[2, 1] == pytest.approx(1 / (1 + math.exp(-1)))


def test_cosine_is_of_each_row() -> None:
    a, b = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[2.0, 0.0], [-3.0, -3.0], [1.0, 1.0]])
    assert cosine(a, b) == pytest.approx([1, -1, 0])
