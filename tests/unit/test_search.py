"""The knapsack against brute force, and the mask rearrangement against a plain greedy search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgetf.algorithms.search import Choice, choices, fisher, joint_losses, rearrange, search, separate_losses

Array = NDArray[np.float64]
Blocks = list[list[Choice]]
often = settings(max_examples=200, deadline=None)


def made(*shape: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def total(blocks: Blocks, chosen: Sequence[int]) -> tuple[float, float]:
    """The summed (loss, cost)."""
    picked = [block[at] for block, at in zip(blocks, chosen, strict=True)]
    return sum(choice.loss for choice in picked), math.fsum(choice.cost for choice in picked)


def brute_force(blocks: Blocks, limit: float) -> tuple[float, float] | None:
    """The least (loss, cost) of all combinations, if any fits."""
    every = (total(blocks, chosen) for chosen in itertools.product(*(range(len(block)) for block in blocks)))
    return min((found for found in every if found[1] <= limit), default=None)


def blocks_of(costs: st.SearchStrategy[float], losses: st.SearchStrategy[float]) -> st.SearchStrategy[Blocks]:
    """One to four blocks of one to four choices, costs in no order."""
    return st.lists(
        st.lists(st.builds(Choice, st.just(1), costs, losses), min_size=1, max_size=4), min_size=1, max_size=4
    )


class TestSearch:
    @often
    @given(
        blocks=blocks_of(st.floats(0, 10), st.floats(0, 100)),
        limit=st.floats(0, 40),
        resolution=st.sampled_from([7, 40, 2000]),
    )
    def test_is_within_the_limit_and_near_the_best(self, blocks: Blocks, limit: float, resolution: int) -> None:
        if brute_force(blocks, limit) is None:
            with pytest.raises(ValueError, match="least possible cost"):
                search(blocks, limit, resolution)
            return
        loss, cost = total(blocks, search(blocks, limit, resolution))
        assert cost <= limit
        best = brute_force(blocks, limit * (1 - len(blocks) / resolution))
        assert best is None or loss <= best[0]

    @often
    @given(blocks=blocks_of(st.integers(0, 12), st.integers(0, 9)), limit=st.integers(1, 40), bins=st.integers(1, 3))
    def test_equals_brute_force_where_costs_fill_their_bins(self, blocks: Blocks, limit: int, bins: int) -> None:
        """Losses are integers too, so ties are exact, and among them the cost has to be the least."""
        wanted = brute_force(blocks, limit)
        if wanted is not None:
            assert total(blocks, search(blocks, limit, bins * limit)) == wanted

    def test_bins_are_filled_exactly_whatever_floats_do(self) -> None:
        """7 / 100 · 2000 is a little more than 140 in floats."""
        block = [Choice(2, 7.0, 0.0), Choice(1, 0.0, 1.0), Choice(3, 8.0, 0.0)]
        dear = [Choice(2, 50.0, 0.0), Choice(1, 43.0, 0.5), Choice(0, 0.0, 100.0)]
        assert search([*[block] * 8, dear], limit=100) == [*[0] * 8, 1]

    def test_a_dearer_choice_that_keeps_less_is_never_taken(self) -> None:
        """A measured table may say that 3 units are slower than 4."""
        block = choices(separate_losses(np.array([1.0, 2.0, 3.0, 4.0])), [4, 3, 2], [5.0, 6.0, 3.0])
        assert search([block, block], limit=9) in ([0, 2], [2, 0])

    def test_everything_stays_where_the_limit_is_all_that_it_costs(self) -> None:
        blocks = [[Choice(1, 0.1, 0.0), Choice(0, 0.03, 1.0)]] * 10
        assert search(blocks, limit=1.0, resolution=20) == [0] * 10

    def test_the_least_cost_is_found_however_coarse_the_bins(self) -> None:
        blocks = [[Choice(1, 0.17, 0.0), Choice(0, 0.13, 1.0)]] * 3
        assert search(blocks, limit=0.39, resolution=2) == [1, 1, 1]

    def test_the_least_cost_fits_a_limit_that_only_rounding_reaches(self) -> None:
        """Ten times the double nearest to 0.1 is a hair more than 1, and 1.0 once added up."""
        assert search([[Choice(1, 0.2, 0.0), Choice(0, 0.1, 1.0)]] * 10, limit=1.0) == [1] * 10

    def test_of_equal_losses_the_cheaper_wins_within_a_bin(self) -> None:
        block = [Choice(4, 4.0, 0.0), Choice(3, 0.9, 1.0), Choice(2, 0.6, 1.0), Choice(0, 0.0, 5.0)]
        assert search([block, block], limit=4.5, resolution=4) == [2, 2]

    def test_of_equal_losses_the_cheaper_wins_with_more_bins(self) -> None:
        """3 + 0 fills three bins of 1, 1.1 + 1.1 four."""
        block = [Choice(2, 3.0, 0.0), Choice(1, 1.1, 1.0), Choice(0, 0.0, 2.0)]
        assert search([block, block], limit=4, resolution=4) == [1, 1]

    def test_nothing_fits(self) -> None:
        with pytest.raises(ValueError, match="costs 3 or less, the least possible cost is 5"):
            search([[Choice(1, 2.0, 0.0)], [Choice(1, 4.0, 0.0), Choice(0, 3.0, 9.0)]], limit=3)

    def test_a_limit_that_is_no_number(self) -> None:
        with pytest.raises(ValueError, match="nan"):
            search([[Choice(1, 2.0, 0.0)]], limit=math.nan)

    def test_a_limit_of_zero(self) -> None:
        block = [Choice(2, 1.0, 0.0), Choice(1, 0.0, 5.0), Choice(0, 0.0, 3.0)]
        assert search([block, block], limit=0) == [2, 2]

    def test_a_limit_far_below_a_cost(self) -> None:
        """A cost of 10^304 bins is still only a choice that does not fit."""
        block = [Choice(2, 10.0, 0.0), Choice(1, 1e-300, 1.0), Choice(0, 0.0, 5.0)]
        assert search([block, block], limit=2e-300) == [1, 1]

    def test_no_limit_and_no_blocks(self) -> None:
        assert search([[Choice(0, 1.0, 2.0), Choice(1, 3.0, 0.0)]], limit=math.inf) == [1]
        assert search([], limit=1.0) == []

    @pytest.mark.parametrize(("cost", "loss"), [(-1.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (1.0, math.nan)])
    def test_a_choice_has_real_numbers(self, cost: float, loss: float) -> None:
        with pytest.raises(ValueError, match="finite"):
            Choice(1, cost, loss)


class TestJointLosses:
    def test_are_those_of_the_sums(self) -> None:
        gradients = made(6, 4, seed=5)
        order = fisher(gradients).argsort()
        found = joint_losses(gradients)
        assert found[0] == 0
        for removed in range(1, 5):
            together = np.mean(gradients[:, order[:removed]].sum(axis=1) ** 2)
            assert found[removed] == pytest.approx(max(together, found[removed - 1]))

    def test_of_units_that_pull_apart_are_the_separate_ones(self) -> None:
        """Each row's loss hangs on one unit alone."""
        gradients = np.diag([1.0, 3.0, 2.0])
        np.testing.assert_allclose(joint_losses(gradients), separate_losses(fisher(gradients)))

    def test_of_units_that_pull_the_same_way_grow_with_the_square(self) -> None:
        np.testing.assert_allclose(joint_losses(np.ones((5, 4))), [0, 1, 4, 9, 16])

    def test_never_fall(self) -> None:
        assert joint_losses(np.array([[1.0, -1.0], [2.0, -2.0]])).tolist() == [0.0, 2.5, 2.5]


class TestChoices:
    def test_loses_the_least_important(self) -> None:
        importance = made(9, seed=1) ** 2
        made_choices = choices(separate_losses(importance), range(10), np.arange(10.0))
        for kept, choice in enumerate(made_choices):
            assert (choice.kept, choice.cost) == (kept, kept)
            best = max(sum(importance[list(some)]) for some in itertools.combinations(range(9), kept))
            assert choice.loss == pytest.approx(importance.sum() - best, abs=1e-12)

    def test_keeping_all_loses_nothing(self) -> None:
        assert choices(np.array([0.0, 3.0, 7.0], dtype=np.float32), [2], [1]) == [Choice(2, 1.0, 0.0)]

    @pytest.mark.parametrize("kept", [-1, 3])
    def test_sizes_must_be_possible(self, kept: int) -> None:
        with pytest.raises(ValueError, match="of 2 units"):
            choices(np.ones(3), [kept], [1.0])

    def test_every_size_needs_a_cost(self) -> None:
        with pytest.raises(ValueError):
            choices(np.ones(3), [1, 2], [1.0])


class TestFisher:
    def test_is_the_diagonal_of_the_whole(self) -> None:
        gradients = made(30, 5, seed=2)
        np.testing.assert_allclose(fisher(gradients), np.diag(gradients.T @ gradients / 30))

    def test_samples_do_not_cancel(self) -> None:
        assert fisher(np.array([[2.0], [-2.0]])).tolist() == [4.0]

    def test_half_precision_does_not_overflow(self) -> None:
        assert fisher(np.full((4, 1), 1e4, dtype=np.float16)).tolist() == [1e8]


def loss_of(gradients: Array, kept: Sequence[int]) -> float:
    removed = np.ones(gradients.shape[1])
    removed[list(kept)] = 0
    push = gradients @ removed
    return float(push @ push / len(gradients) / 2)


def swaps(kept: Sequence[int], units: int) -> list[list[int]]:
    others = set(range(units)) - set(kept)
    return [sorted({*kept, back} - {out}) for out in kept for back in others]


def greedy(gradients: Array, kept: list[int]) -> list[int]:
    """The best swap of all, while it helps."""
    while True:
        best = min(swaps(kept, gradients.shape[1]), key=lambda other: loss_of(gradients, other))
        if loss_of(gradients, best) >= loss_of(gradients, kept):
            return kept
        kept = best


class TestRearrange:
    @pytest.mark.parametrize("seed", range(20))
    def test_equals_the_greedy_search(self, seed: int) -> None:
        gradients = made(12, 9, seed=seed)
        kept = sorted(np.random.default_rng(seed).permutation(9)[: 1 + seed % 8].tolist())
        assert rearrange(gradients, kept) == greedy(gradients, kept)

    @settings(max_examples=80, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        samples=st.integers(1, 12),
        units=st.integers(1, 10),
        share=st.floats(0, 1),
        scale=st.sampled_from([1e-6, 1.0, 1e6]),
        rank=st.integers(1, 10),
    )
    def test_ends_where_no_swap_helps(
        self, seed: int, samples: int, units: int, share: float, scale: float, rank: int
    ) -> None:
        """Few samples and dependent units too."""
        gradients = scale * made(samples, rank, seed=seed) @ made(rank, units, seed=seed + 1)
        kept = np.random.default_rng(seed).permutation(units)[: round(share * units)].tolist()
        after = rearrange(gradients, kept)
        assert after == sorted(set(after)) and len(after) == len(kept)
        size = loss_of(gradients, []) + fisher(gradients).sum()
        assert loss_of(gradients, after) <= loss_of(gradients, kept) + 1e-12 * size
        for other in swaps(after, units):
            assert loss_of(gradients, after) <= loss_of(gradients, other) + 1e-5 * size

    def test_independent_units_keep_the_most_important(self) -> None:
        gradients = np.diag([1.0, 5.0, 3.0, 4.0, 2.0])
        assert rearrange(gradients, [0, 4]) == [1, 3]
        assert rearrange(gradients, [3, 1]) == [1, 3]

    def test_a_swap_that_only_rounding_likes_is_not_made(self) -> None:
        """Large gradients cancel out in what is removed, so single precision misjudges the small ones beside them."""
        for seed in range(60):
            gradients = 0.01 * made(40, 12, seed=seed)
            gradients[0] += 100 * np.tile([1, -1], 6)
            kept = greedy(gradients, list(range(6)))
            assert loss_of(gradients, rearrange(gradients, kept)) <= loss_of(gradients, kept) * (1 + 1e-9)

    def test_no_gradient_moves_nothing(self) -> None:
        assert rearrange(np.zeros((3, 4)), [2, 0]) == [0, 2]

    def test_all_or_none_kept(self) -> None:
        assert rearrange(made(3, 4, seed=1), [0, 1, 2, 3]) == [0, 1, 2, 3]
        assert rearrange(made(3, 4, seed=1), []) == []

    def test_single_precision_gradients(self) -> None:
        gradients = made(64, 30, seed=4).astype(np.float32)
        after = rearrange(gradients, list(range(15)))
        assert loss_of(gradients.astype(np.float64), after) < loss_of(gradients.astype(np.float64), range(15))
