"""The percentile bootstrap (Efron 1979): how far a statistic moves when the rows are drawn anew, with replacement.

What is compared on the same rows is drawn together, so that the interval of a difference is that of pairs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
Indices = NDArray[np.int64]
Statistic = Callable[[Indices], float]


def draws(rows: int, seed: int = 0) -> Indices:
    """Row numbers of every draw, (DRAWS, N)."""
    return np.random.default_rng(seed).integers(0, rows, size=(DRAWS, rows))


def block_draws(rows: int, seed: int = 0) -> Indices:
    """Row numbers of every draw, (DRAWS, N), in blocks of rows that followed one another.

    Timings are not independent, what disturbs one disturbs the next. Blocks keep that (Künsch 1989); their length is
    the usual N^(1/3).
    """
    length = max(1, round(rows ** (1 / 3)))
    starts = np.random.default_rng(seed).integers(0, rows - length + 1, size=(DRAWS, -(-rows // length)))
    return (starts[:, :, None] + np.arange(length)).reshape(DRAWS, -1)[:, :rows]


def interval(statistic: Statistic, rows: int, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of a statistic of row numbers (N,); None where it is not defined for any draw.

    >>> values = np.arange(100.0)
    >>> low, high = interval(lambda rows: float(values[rows].mean()), 100) or (0.0, 0.0)
    >>> low < 49.5 < high
    True
    """
    found = np.asarray([statistic(drawn) for drawn in draws(rows, seed)]) if rows else np.empty(0)
    return percentile_interval(found)


def percentile_interval(found: NDArray[np.float64]) -> tuple[float, float] | None:
    """The middle 95 % of the draws (D,) in which the statistic is defined."""
    defined = found[np.isfinite(found)]
    if not len(defined):
        return None
    return (float(np.percentile(defined, 2.5)), float(np.percentile(defined, 97.5)))
