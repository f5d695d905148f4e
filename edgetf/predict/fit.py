"""Few constants, none negative, fitted to times by their relative error, so that small models count as large ones.

With costs a_i (a row for each measurement, a column for each constant) and times t_i, it minimizes over c >= 0

    sum_i w_i (a_i·c / t_i - 1)^2  +  ridge · sum_j (c_j / p_j - 1)^2

where p is a prior: what such constants usually are, which holds those that the few measurements say nothing of. The
weights w_i are 1; or, of times whose measurement may have been disturbed, Tukey's: one whose error is far outside the
spread of all (by the median absolute deviation) then counts for little or nothing. A few times of chosen models, as of
probes, must not be weighed so: the one that alone shows a cost would be taken for a disturbance.

Sources: Lawson and Hanson 1974, chapter 23 (non-negative least squares); Beaton and Tukey 1974 (biweight).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TUKEY = 4.685  # keeps 95 % of the efficiency of least squares where errors are normal
MAD_TO_SIGMA = 1.4826  # of a normal distribution
LEAST_SPREAD = 0.005  # relative: no measurement is closer to the truth than that
ROUNDS = 20
_SETTLED = 1e-6  # change of a constant from a round to the next
_CLOSE = 1e-12


def nonnegative(a: Floats, b: Floats) -> Floats:
    """The c >= 0 (K,) with the least |a @ c - b|, for a (N, K) and b (N,), by Lawson's and Hanson's active sets.

    >>> nonnegative(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([2.0, -1.0])).tolist()
    [2.0, 0.0]
    """
    size = np.linalg.norm(a, axis=0)
    scaled = a / np.where(size > 0, size, 1.0)
    c, free = np.zeros(a.shape[1]), np.zeros(a.shape[1], dtype=bool)
    slope = scaled.T @ b
    tolerance = _CLOSE * max(1.0, float(np.abs(slope).max()))
    for _ in range(3 * len(c)):
        slope = np.where(free, -np.inf, scaled.T @ (b - scaled @ c))
        if slope.max() <= tolerance:
            break
        free[int(slope.argmax())] = True
        c = _within_bounds(scaled, b, c, free)
    return np.asarray(c / np.where(size > 0, size, 1.0))


def _within_bounds(a: Floats, b: Floats, c: Floats, free: NDArray[np.bool_]) -> Floats:
    """From c towards least squares over the free columns until none is negative; `free` loses those that are zero."""
    while free.any():
        target = np.zeros_like(c)
        target[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
        below = free & (target <= 0)
        if not below.any():
            return target
        step = float((c[below] / (c[below] - target[below] + _CLOSE)).min())
        c = c + step * (target - c)
        free &= c > _CLOSE
        c = np.where(free, c, 0.0)
    return np.zeros_like(c)


def constants(
    costs: Floats, times: Floats, prior: Floats | None = None, ridge: float = 0.0, disturbed: bool = False
) -> Floats:
    """The constants (K,) of costs (N, K) and times (N,), see the formula above; without a prior there is no ridge.

    >>> constants(np.array([[1.0, 2.0], [3.0, 1.0], [2.0, 2.0]]), np.array([8.0, 9.0, 10.0])).round(6).tolist()
    [2.0, 3.0]
    """
    relative, wanted = costs / times[:, None], np.ones(len(times))
    held = np.zeros((0, costs.shape[1])) if prior is None else np.sqrt(ridge) * np.diag(1 / prior)
    rest = np.sqrt(ridge) * np.ones(len(held))
    weights, found = np.ones(len(times)), np.zeros(costs.shape[1])
    for _ in range(ROUNDS if disturbed else 1):
        root = np.sqrt(weights)
        before, found = found, nonnegative(np.vstack([relative * root[:, None], held]), np.concatenate([root, rest]))
        if np.allclose(before, found, rtol=_SETTLED):
            break
        weights = _biweight(relative @ found - wanted)
    return found


def _biweight(errors: Floats) -> Floats:
    """Tukey's weights of errors (N,): 1 at none, 0 from `TUKEY` times their spread on."""
    spread = max(LEAST_SPREAD, MAD_TO_SIGMA * float(np.median(np.abs(errors))))
    share = np.minimum(1.0, np.abs(errors) / (TUKEY * spread))
    return np.asarray((1 - share**2) ** 2)


def leverage(costs: Floats, times: Floats, prior: Floats | None, ridge: float, rows: Floats) -> Floats:
    """How far rows x (M, K), each over its predicted time, lie outside of what was fitted, (M,).

    h = x (AᵀA + ridge·P⁻²)⁻¹ xᵀ, with A the costs over the times, and P the prior on the diagonal.
    """
    relative = costs / times[:, None]
    held = np.zeros(costs.shape[1]) if prior is None else ridge / prior**2
    normal = relative.T @ relative + np.diag(held)
    return np.asarray(np.einsum("ij,jk,ik->i", rows, np.linalg.pinv(normal), rows))
