"""The range of an activation that its 8 bits should cover, from a histogram of what calibration rows gave.

A value outside of the range is clipped to its end; a wider range has coarser steps. Four ways to choose:

- min_max: the whole range; nothing is clipped.
- percentile: all but a share of the values at each end.
- mse: least squared error of clipping and rounding together.
- entropy: least Kullback-Leibler divergence of the histogram from what the steps leave of it (Migacz 2017, "8-bit
  Inference with TensorRT").

mse and entropy try ranges that are shrunk toward zero at both ends by one factor.
"""

from __future__ import annotations

import numpy as np

from edgetf.core.metrics import Floats
from edgetf.core.schemes import CalibrationMethod

BINS = 2048
LEVELS = 256
NARROW = 1e-30  # what ranges over no more has no bins that float could tell apart
PERCENTILE = 99.99  # of the values lie within the range
_FACTORS = np.linspace(0.1, 1.0, 91)

Range = tuple[float, float]


def chosen_range(counts: Floats, low: float, high: float, method: CalibrationMethod, levels: int = LEVELS) -> Range:
    """The range to cover, around 0, for a histogram (B,) of equal bins from `low` to `high`.

    >>> chosen_range(np.array([1.0, 8.0, 1.0]), -1.0, 2.0, "min_max")
    (-1.0, 2.0)
    """
    least, most = min(low, 0.0), max(high, 0.0)
    if method == "min_max" or high - low <= NARROW:
        return least, most
    if method == "percentile":
        return percentile_range(counts, low, high)
    loss = squared_error if method == "mse" else divergence
    losses = [loss(counts, low, high, (least * factor, most * factor), levels) for factor in _FACTORS]
    best = float(_FACTORS[len(losses) - 1 - int(np.argmin(losses[::-1]))])  # of equals the widest
    return least * best, most * best


def percentile_range(counts: Floats, low: float, high: float, percentile: float = PERCENTILE) -> Range:
    """What holds `percentile` of the values, the same share left out at either end.

    >>> percentile_range(np.array([1.0, 0, 98, 0, 1]), -5.0, 5.0, 98.0)
    (-1.0, 1.0)
    """
    edges = np.linspace(low, high, len(counts) + 1)
    below = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    outside = (1 - percentile / 100) / 2
    first = int(np.flatnonzero(below <= outside + 1e-12)[-1])
    last = int(np.flatnonzero(below >= 1 - outside - 1e-12)[0])
    return min(float(edges[first]), 0.0), max(float(edges[last]), 0.0)


def squared_error(counts: Floats, low: float, high: float, covered: Range, levels: int = LEVELS) -> float:
    """Mean squared error of the values, taken at their bins' centres, in `levels` equal steps over a range.

    >>> round(squared_error(np.array([1.0, 1.0]), 0.0, 2.0, (0.0, 1.5), 4), 3)
    0.0
    """
    centres = low + (np.arange(len(counts)) + 0.5) * (high - low) / len(counts)
    step = (covered[1] - covered[0]) / (levels - 1)
    rounded = np.round((np.clip(centres, *covered) - covered[0]) / step) * step + covered[0]
    return float((counts * (centres - rounded) ** 2).sum() / counts.sum())


def divergence(counts: Floats, low: float, high: float, covered: Range, levels: int = LEVELS) -> float:
    """Kullback-Leibler divergence of the clipped histogram from the one that `levels` steps over a range leave.

    What is clipped falls on the range's ends. A step spreads its count over those of its bins that were not empty.

    >>> [round(divergence(np.array([1.0, 3.0]), 0.0, 1.0, (0.0, 1.0), levels), 4) for levels in (2, 1)]
    [0.0, 0.1308]
    """
    bins = len(counts)
    centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
    inside = np.flatnonzero((centres >= covered[0]) & (centres <= covered[1]))
    if not len(inside):
        return float("inf")
    first, last = int(inside[0]), int(inside[-1])
    kept = counts[first : last + 1]
    whole = kept.copy()
    whole[0] += counts[:first].sum()
    whole[-1] += counts[last + 1 :].sum()
    place = (centres[first : last + 1] - covered[0]) / (covered[1] - covered[0])
    step = np.minimum((place * levels).astype(int), levels - 1)
    filled = (kept > 0).astype(float)
    total, places = np.bincount(step, kept, levels), np.bincount(step, filled, levels)
    spread = np.divide(total, places, out=np.zeros(levels), where=places > 0)[step] * filled
    p, q = whole / whole.sum(), spread / max(spread.sum(), 1e-300)
    seen = p > 0
    if (q[seen] == 0).any():  # something was clipped onto an empty end
        q = (q + 1e-9) / (q + 1e-9).sum()
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())
