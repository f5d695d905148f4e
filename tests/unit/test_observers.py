"""What each way of choosing a range means, on histograms whose best range is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetf.algorithms.observers import (
    _FACTORS,
    BINS,
    PERCENTILE,
    Range,
    chosen_range,
    divergence,
    percentile_range,
    squared_error,
)

Array = NDArray[np.float64]


def histogram(values: Array) -> tuple[Array, float, float]:
    """Counts and ends, as calibration takes them: zero always lies between the ends."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return np.histogram(values, BINS, (low, high))[0].astype(float), low, high


def normal_with_outlier(size: float = 60.0) -> Array:
    return np.concatenate([np.random.default_rng(0).normal(size=100_000), [size]])


def long_tail() -> Array:
    """Student's t with three degrees of freedom: a few values lie far out."""
    return np.random.default_rng(1).standard_t(3, size=100_000)


def error(values: Array, covered: Range, levels: int = 256) -> float:
    """Mean squared error of the values themselves."""
    step = (covered[1] - covered[0]) / (levels - 1)
    rounded = np.round((values.clip(*covered) - covered[0]) / step) * step + covered[0]
    return float(np.mean((values - rounded) ** 2))


def outside(values: Array, covered: Range) -> float:
    return float(np.mean((values < covered[0]) | (values > covered[1])))


class TestMinMax:
    def test_clips_nothing(self) -> None:
        for values in (normal_with_outlier(), long_tail()):
            counts, low, high = histogram(values)
            assert chosen_range(counts, low, high, "min_max") == (values.min(), values.max())

    def test_takes_zero_in(self) -> None:
        assert chosen_range(np.ones(4), 1.0, 2.0, "min_max") == (0.0, 2.0)
        assert chosen_range(np.ones(4), -2.0, -1.0, "min_max") == (-2.0, 0.0)


class TestPercentile:
    @pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, PERCENTILE])
    def test_leaves_the_stated_share_out_half_at_each_end(self, percentile: float) -> None:
        values = np.random.default_rng(2).normal(size=400_000)
        counts, low, high = histogram(values)
        covered = percentile_range(counts, low, high, percentile)
        left_out, bin_share = 1 - percentile / 100, float(counts.max() / counts.sum())
        for side in (np.mean(values < covered[0]), np.mean(values > covered[1])):
            assert left_out / 2 - bin_share <= side <= left_out / 2 + 1e-9

    def test_clips_one_value_in_a_hundred_thousand(self) -> None:
        values = normal_with_outlier()
        covered = chosen_range(*histogram(values), "percentile")
        assert covered[1] < 6
        assert 0 < outside(values, covered) <= 1 - PERCENTILE / 100

    def test_of_one_value_is_that_value(self) -> None:
        assert percentile_range(np.array([0.0, 0.0, 5.0]), 0.0, 3.0) == (0.0, 3.0)


class TestMse:
    @pytest.mark.parametrize("values", [normal_with_outlier(), long_tail()], ids=["outlier", "tail"])
    @pytest.mark.parametrize("levels", [16, 256])
    def test_no_other_candidate_loses_less(self, values: Array, levels: int) -> None:
        counts, low, high = histogram(values)
        covered = chosen_range(counts, low, high, "mse", levels)
        losses = [squared_error(counts, low, high, (low * f, high * f), levels) for f in _FACTORS]
        assert squared_error(counts, low, high, covered, levels) == min(losses)

    def test_clips_an_outlier_that_min_max_keeps(self) -> None:
        values = normal_with_outlier()
        counts, low, high = histogram(values)
        covered = chosen_range(counts, low, high, "mse", 16)
        assert covered[1] < 30 < chosen_range(counts, low, high, "min_max")[1]
        assert error(values, covered, 16) < error(values, (low, high), 16) / 2

    def test_keeps_all_where_clipping_would_only_lose(self) -> None:
        values = np.random.default_rng(3).uniform(-1, 1, 100_000)
        counts, low, high = histogram(values)
        assert chosen_range(counts, low, high, "mse") == pytest.approx((low, high))

    def test_its_error_is_that_of_the_values(self) -> None:
        values = long_tail()
        counts, low, high = histogram(values)
        covered = chosen_range(counts, low, high, "mse")
        assert squared_error(counts, low, high, covered) == pytest.approx(error(values, covered), rel=0.05)


class TestEntropy:
    def test_clips_a_long_tail(self) -> None:
        values = long_tail()
        counts, low, high = histogram(values)
        covered = chosen_range(counts, low, high, "entropy")
        assert covered[1] - covered[0] < 0.8 * (high - low)
        assert 0 < outside(values, covered) < 0.01

    def test_no_other_candidate_diverges_less(self) -> None:
        counts, low, high = histogram(long_tail())
        covered = chosen_range(counts, low, high, "entropy")
        losses = [divergence(counts, low, high, (low * f, high * f)) for f in _FACTORS]
        assert divergence(counts, low, high, covered) == min(losses)

    def test_keeps_all_where_every_value_has_a_step(self) -> None:
        counts = np.zeros(BINS)
        counts[:: BINS // 128] = 1.0
        assert chosen_range(counts, -1.0, 1.0, "entropy") == (-1.0, 1.0)

    def test_of_what_it_loses_nothing_is_zero(self) -> None:
        counts = np.random.default_rng(4).integers(1, 9, 64).astype(float)
        assert divergence(counts, -1.0, 1.0, (-1.0, 1.0), 64) == pytest.approx(0.0, abs=1e-12)
        assert divergence(counts, -1.0, 1.0, (-1.0, 1.0), 4) > 0.01


@pytest.mark.parametrize("method", ["min_max", "percentile", "mse", "entropy"])
class TestEvery:
    def test_a_histogram_that_does_not_begin_at_zero_keeps_its_place(self, method: str) -> None:
        """Values near 10, of which none is between 0 and 9: none may be clipped as if it were near 0."""
        values = np.random.default_rng(5).uniform(9, 10, 100_000)
        counts = np.histogram(values, BINS, (9.0, 10.0))[0].astype(float)
        low, high = chosen_range(counts, 9.0, 10.0, method)  # type: ignore[arg-type]
        assert low == 0.0
        assert high == pytest.approx(10.0, abs=0.15)

    def test_of_zeros_is_no_range(self, method: str) -> None:
        assert chosen_range(np.full(BINS, 3.0), 0.0, 0.0, method) == (0.0, 0.0)  # type: ignore[arg-type]

    def test_numbers_without_sign_begin_at_zero(self, method: str) -> None:
        counts, low, high = histogram(np.abs(long_tail()))
        covered = chosen_range(counts, low, high, method)  # type: ignore[arg-type]
        assert covered[0] == 0.0 < covered[1] <= high
