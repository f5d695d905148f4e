"""Correlations against scipy's, and the bootstrap against what is known of a mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgetf.core.bootstrap import draws, interval, percentile_interval
from edgetf.core.correlation import pearson, ranks, spearman

RNG = np.random.default_rng(0)
A = RNG.normal(size=60)
B = 0.5 * A + RNG.normal(size=60)
TIED = RNG.integers(0, 5, size=60).astype(float)


def test_pearson_by_hand() -> None:
    assert pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0])) == pytest.approx(math.sqrt(3) / 2)


@pytest.mark.parametrize("other", [B, TIED, A, -A], ids=["noisy", "tied", "same", "opposite"])
def test_both_agree_with_scipy(other: np.ndarray) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert pearson(A, other) == pytest.approx(stats.pearsonr(A, other).statistic)
    assert spearman(A, other) == pytest.approx(stats.spearmanr(A, other).statistic)
    assert ranks(other) == pytest.approx(stats.rankdata(other))


@pytest.mark.parametrize("constant", [np.ones(60), np.zeros(60)])
def test_a_constant_has_no_correlation(constant: np.ndarray) -> None:
    assert math.isnan(pearson(A, constant))
    assert math.isnan(spearman(constant, A))
    assert math.isnan(pearson(A[:1], A[:1]))


def test_numbers_of_any_size() -> None:
    assert pearson(A * 1e-200, B * 1e200) == pytest.approx(pearson(A, B))


def test_a_bootstrapped_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(size=400)
    low, high = interval(lambda rows: float(values[rows].mean()), 400) or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_draws_are_the_same_every_time() -> None:
    assert np.array_equal(draws(7), draws(7))
    assert not np.array_equal(draws(7), draws(7, seed=1))


def test_what_is_never_defined_has_no_interval() -> None:
    assert interval(lambda rows: math.nan, 5) is None
    assert interval(lambda rows: 1.0, 0) is None
    assert percentile_interval(np.array([math.nan, 2.0, 2.0])) == (2.0, 2.0)
