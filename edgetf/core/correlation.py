"""Correlations of two columns of numbers: Pearson's of the values, Spearman's of their ranks.

Sources: Pearson 1895; Spearman 1904. Ties share the mean of their ranks.
"""

from __future__ import annotations

import numpy as np

from edgetf.core.metrics import Floats


def pearson(a: Floats, b: Floats) -> float:
    """Correlation of two (N,) columns; NaN where one of them is constant.

    >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 5.0])), 4)
    0.982
    """
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    x, y = a - a.mean(), b - b.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # squares of very small or large numbers would leave the range
    return float(np.clip((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()), -1.0, 1.0))


def ranks(values: Floats) -> Floats:
    """Rank of each of (N,) values from 1, ties at the mean of theirs.

    >>> ranks(np.array([10.0, 30.0, 10.0])).tolist()
    [1.5, 3.0, 1.5]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation of two (N,) columns; NaN where one of them is constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0, 11.0]))
    1.0
    """
    return pearson(ranks(a), ranks(b))
