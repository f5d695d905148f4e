"""Constants are found again where they were planted, and intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from edgetf.predict.fit import constants, leverage, nonnegative
from edgetf.predict.interval import factor, left_out_errors, student
from edgetf.predict.ops import Op
from edgetf.predict.roofline import TERMS, Counts, Roofline, Timed, counts_of, fit_roofline

PLANTED = np.array([4.0, 10.0, 30.0, 3.0, 0.05, 0.6, 0.1, 0.3])
CACHE_MB = 16


def some_counts(count: int, seed: int, largest: float = 1.0) -> list[Counts]:
    """Of random models, in which nothing goes with anything else, so that costs can be told apart."""
    dice = np.random.default_rng(seed)

    def one() -> Counts:
        product, weights, attention, elements, function, rounding, turn = dice.uniform(0.05, 1.0, 7) * largest
        return Counts(2 * product, 0.08 * weights, 0.2 * attention, 10 * elements, 2 * function, 4 * rounding, turn)

    return [one() for _ in range(count)]


def timed(counts: list[Counts], noise: float = 0.0, seed: int = 0) -> list[Timed]:
    """What these take by the planted constants, three lengths a model."""
    errors = np.random.default_rng(seed).normal(0, noise, len(counts))
    return [
        Timed(f"model {k // 3}", k % 3, each, float(each.costs(CACHE_MB) @ PLANTED * np.exp(error)))
        for k, (each, error) in enumerate(zip(counts, errors, strict=True))
    ]


@pytest.mark.parametrize("seed", range(20))
def test_least_squares_without_a_sign_agrees_with_scipy(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="needs edgetf[bench]")
    dice = np.random.default_rng(seed)
    a, b = dice.normal(size=(12, 6)), dice.normal(size=12)
    assert nonnegative(a, b) == pytest.approx(optimize.nnls(a, b)[0], abs=1e-8)


def test_planted_constants_and_the_cache_are_found_again() -> None:
    found = fit_roofline(timed(some_counts(60, seed=1)))
    assert found.cache_mb == CACHE_MB
    assert np.array(found.constants) == pytest.approx(PLANTED, rel=0.15)  # the prior draws at each a little
    for counts in some_counts(10, seed=2):
        assert found.estimate(counts).ms == pytest.approx(counts.costs(CACHE_MB) @ PLANTED, rel=0.01)


def test_a_small_model_counts_as_much_as_a_large_one() -> None:
    costs = np.array([[1.0, 0.0], [0.0, 1000.0]])
    assert constants(costs, np.array([2.0, 3000.0])) == pytest.approx([2.0, 3.0])


def test_what_no_measurement_speaks_of_stays_at_the_prior() -> None:
    costs, prior = np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([9.0, 7.0])
    assert constants(costs, np.array([5.0, 10.0]), prior, ridge=1e-6) == pytest.approx([5.0, 7.0], rel=1e-3)


def test_a_disturbed_measurement_counts_for_nothing_if_that_is_asked() -> None:
    costs = np.random.default_rng(0).uniform(1, 2, (40, 2))
    times = costs @ [2.0, 3.0]
    times[7] *= 5
    assert constants(costs, times, disturbed=True) == pytest.approx([2.0, 3.0], rel=1e-6)
    assert abs(constants(costs, times) - [2.0, 3.0]).max() > 0.1


def test_intervals_hold_at_least_nine_in_ten_new_measurements() -> None:
    inside = []
    for seed in range(5):
        found = fit_roofline(timed(some_counts(36, seed), noise=0.06, seed=seed))
        for each in timed(some_counts(60, seed + 50), noise=0.06, seed=seed + 50):
            estimate = found.estimate(each.counts)
            assert estimate.low < estimate.ms < estimate.high
            inside.append(estimate.low <= each.ms <= estimate.high)
    assert np.mean(inside) >= 0.9


def test_an_interval_is_wider_far_from_what_was_measured() -> None:
    """A hundred times the attention of any probe, and next to nothing else."""
    found = fit_roofline(timed(some_counts(36, seed=3), noise=0.05))
    near, far = some_counts(1, seed=4)[0], Counts(0.01, 0.001, 20.0, 0.1, 0.01, 0.01, 0.01)
    widths = [found.estimate(counts).high / found.estimate(counts).ms for counts in (near, far)]
    assert widths[1] > widths[0]


def test_a_model_is_left_out_with_all_its_lengths() -> None:
    seen: list[int] = []

    def fit(kept: np.ndarray) -> np.ndarray:
        seen.append(int((~kept).sum()))
        return np.ones(6)

    errors = left_out_errors(["a", "a", "a", "b", "b", "c"], np.full(6, np.e), fit)
    assert seen == [3, 2, 1]
    assert errors == pytest.approx(np.ones(6))


def test_few_models_make_a_wide_interval() -> None:
    errors = np.full(10, 0.05)
    assert student(3) == pytest.approx(3.182, rel=0.02)
    assert factor(errors, 4, 0.0) > factor(errors, 12, 0.0) > np.exp(1.95 * 0.05)
    assert factor(errors, 12, 0.5) > factor(errors, 12, 0.0)


def test_errors_of_one_sitting_do_not_promise_what_another_will_not_keep() -> None:
    exact = np.zeros(10)
    assert factor(exact, 12, 0.0) == 1.0
    assert factor(exact, 12, 0.0, repeats=0.05) == pytest.approx(np.exp(student(11) * 0.05))


def test_leverage_of_a_line_through_one_point_is_that_of_its_formula() -> None:
    costs, times = np.array([[2.0], [2.0]]), np.array([4.0, 4.0])
    assert leverage(costs, times, None, 0.0, np.array([[0.5]])) == pytest.approx([0.25 / (2 * 0.25)])


def test_views_cost_nothing_and_have_no_turn() -> None:
    shaped = Op("Reshape", "view", 0.0, 0.0, 800.0, 100, "float")
    assert counts_of([shaped]) == Counts(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert counts_of([Op("Add", "arithmetic", 0.0, 0.0, 8.0, 2_000_000, "float")]).elements == 2.0


def test_parts_of_an_estimate_are_its_whole() -> None:
    found: Roofline = fit_roofline(timed(some_counts(36, seed=5)))
    estimate = found.estimate(some_counts(1, seed=6)[0])
    assert list(estimate.parts) == list(TERMS)
    assert sum(estimate.parts.values()) == pytest.approx(estimate.ms)
