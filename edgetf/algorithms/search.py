"""How many units every block keeps, and which, from the gradients of masks that multiply them.

Diagonal Fisher information (Kwon et al. 2022, arXiv 2204.09656): with a mask m that is 1 on what stays, and g the
gradient of one sample's loss at m = 1, removing units costs about ``½ (1 - m)ᵀ F (1 - m)`` with ``F = mean of g gᵀ``.
Its diagonal is the importance of every unit on its own; the rest of F says what a block's units do together, and which
stand in for each other: Kwon's rearrangement swaps units of one block by it once their number is settled.

Latency tables (ZipLM, Kurtic et al. 2023, arXiv 2302.04089): what a block costs at each number of kept units is
measured, not derived, and one number a block has to be chosen: a multiple-choice knapsack, solved by dynamic
programming.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Choice:
    """One number of units that a block may keep."""

    kept: int
    cost: float  # any unit, the same in all blocks: milliseconds, multiplications, weights
    loss: float  # the importance that is given up

    def __post_init__(self) -> None:
        if not (0 <= self.cost < math.inf and math.isfinite(self.loss)):
            raise ValueError(f"{self}: a cost is finite and not negative, a loss is finite")


def separate_losses(importance: Array) -> NDArray[np.float64]:
    """The loss (U + 1,) by the number of removed units, the least important of (U,) first, each for itself.

    >>> separate_losses(np.array([1.0, 5.0, 2.0])).tolist()
    [0.0, 1.0, 3.0, 8.0]
    """
    return np.concatenate([[0.0], np.sort(importance).cumsum(dtype=np.float64)])


def joint_losses(gradients: Array) -> NDArray[np.float64]:
    """The loss (U + 1,) by the number of units removed together, the least important first: the mean of (Σ g)².

    From the gradients (N, U) of one block. What the diagonal misses is that a block's units pull the same way: without
    all of them the loss is far more than the sum of what each costs. It never falls with more units removed.

    >>> joint_losses(np.array([[1.0, 2.0], [1.0, 2.0]])).tolist()
    [0.0, 1.0, 9.0]
    """
    order = fisher(gradients).argsort()
    together = gradients[:, order].cumsum(axis=1, dtype=np.float64)
    return np.maximum.accumulate(np.concatenate([[0.0], np.square(together).mean(axis=0)]))


def choices(losses: Array, sizes: Sequence[int], costs: Sequence[float]) -> list[Choice]:
    """A choice for each of `sizes`, the numbers of kept units, from the losses (U + 1,) by the number removed.

    >>> choices(np.array([0.0, 1.0, 3.0, 8.0]), [3, 1], [0.9, 0.4])
    [Choice(kept=3, cost=0.9, loss=0.0), Choice(kept=1, cost=0.4, loss=3.0)]
    """
    units = len(losses) - 1
    if not all(0 <= kept <= units for kept in sizes):
        raise ValueError(f"cannot keep {list(sizes)} of {units} units")
    return [Choice(kept, float(cost), float(losses[units - kept])) for kept, cost in zip(sizes, costs, strict=True)]


def search(blocks: Sequence[Sequence[Choice]], limit: float, resolution: int = 2000) -> list[int]:
    """The position of one choice in every block: the least summed loss whose summed cost is at most `limit`.

    Costs are rounded up to bins of ``limit / resolution``, so the limit holds, and the loss is at most the best one
    at ``limit · (1 - blocks / resolution)``. Of equal losses the cheaper wins. A block's own least cost is taken off
    before rounding, so whatever fits at all is found.

    >>> block = [Choice(4, 4.0, 0.0), Choice(2, 2.0, 1.0), Choice(0, 0.0, 5.0)]
    >>> search([block, block], limit=5)
    [1, 1]
    """
    least = [min(choice.cost for choice in block) for block in blocks]
    if not math.fsum(least) <= limit:
        raise ValueError(f"no combination costs {limit:g} or less, the least possible cost is {math.fsum(least):g}")
    worth = [[(choice.loss, choice.cost) for choice in block] for block in blocks]
    free = [ways.index(min(ways)) for ways in worth]
    if math.fsum(ways[at][1] for ways, at in zip(worth, free, strict=True)) <= limit:
        return free  # the limit does not bind; rounding up could hide that
    # Fractions: in floats, a cost that fills its bins exactly would often round to one bin more.
    bin_width = Fraction(limit) / resolution or Fraction(1)  # a limit of zero leaves no spare, any width does
    spare = max(Fraction(limit) - sum(map(Fraction, least)), Fraction(0)) // bin_width
    bins = [  # no more than do not fit, as bins can be far smaller than a cost
        [min(math.ceil((Fraction(choice.cost) - Fraction(low)) / bin_width), spare + 1) for choice in block]
        for block, low in zip(blocks, least, strict=True)
    ]
    return _knapsack(worth, bins, spare)


def _knapsack(worth: list[list[tuple[float, float]]], bins: list[list[int]], spare: int) -> list[int]:
    """The ways with the least summed (loss, cost) whose summed bins are at most `spare`; each block has one of 0."""
    loss, cost = np.full((2, spare + 1), np.inf)  # the best so far, by the number of bins used
    loss[0] = cost[0] = 0.0
    picks = []
    for ways, used in zip(worth, bins, strict=True):
        more_loss, more_cost = np.array(ways).T[:, :, None]  # (C, 1) each
        before = np.arange(spare + 1) - np.array(used)[:, None]  # (C, S), where each choice comes from
        possible, before = before >= 0, before.clip(min=0)
        losses = np.where(possible, loss[before] + more_loss, np.inf)
        loss = losses.min(axis=0)
        costs = np.where(losses == loss, cost[before] + more_cost, np.inf)
        picks.append(costs.argmin(axis=0))
        cost = costs.min(axis=0)
    at = int(np.lexsort((cost, loss))[0])
    chosen = []
    for pick, used in zip(reversed(picks), reversed(bins), strict=True):
        chosen.append(int(pick[at]))
        at -= used[chosen[-1]]
    return chosen[::-1]


def fisher(gradients: Array) -> NDArray[np.float64]:
    """Importance (U,): the mean of g² over the samples of (N, U), one row a sample, never the sum of a batch.

    >>> fisher(np.array([[1.0, 0.0], [-3.0, 2.0]])).tolist()
    [5.0, 2.0]
    """
    importance: NDArray[np.float64] = np.square(gradients, dtype=np.float64).mean(axis=0)
    return importance


def rearrange(gradients: Array, kept: Sequence[int]) -> list[int]:
    """As many kept units, ascending, after the best swap with a removed one, again and again while the loss falls.

    The loss is ``½ (1 - m)ᵀ F (1 - m)`` with ``F = Gᵀ G / N`` from the gradients G (N, U) of one block. Here the first
    two units cancel out, so they go together although each matters more than the third:

    >>> rearrange(np.array([[1.0, -1.0, 0.5]]), kept=[0])
    [2]
    """
    exact = gradients.astype(np.float64)
    samples, units = exact.shape
    stay = sorted(set(kept))
    gone = sorted(set(range(units)) - set(stay))
    if not stay or not gone:
        return stay
    narrow = gradients.astype(np.float32)  # U × U numbers: half the memory, and only the choice of a swap needs them
    shared = narrow.T @ narrow / samples  # (U, U), F
    own = shared.diagonal() / 2
    push = exact[:, gone].sum(axis=1)  # (N,), G (1 - m): the loss is its square over 2 N
    for _ in range(units):
        slope = exact.T @ push / samples  # (U,), F (1 - m)
        change = (slope + own)[stay][:, None] - (slope - own)[gone] - shared[np.ix_(stay, gone)]
        out, back = np.unravel_index(change.argmin(), change.shape)
        moved = push + exact[:, stay[out]] - exact[:, gone[back]]
        if moved @ moved >= push @ push:  # checked in double precision, so the loss never rises
            break
        push = moved
        stay[out], gone[back] = gone[back], stay[out]
    return sorted(stay)
