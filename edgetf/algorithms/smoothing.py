"""SmoothQuant (Xiao et al. 2022, arXiv 2211.10438): move the range of a few large channels from activations to weights.

Of a product ``y = W x``, channel j of x and column j of W may trade a factor: ``y = (W diag(s)) (x / s)``. INT8 gives
all channels of x one scale, which the largest channel sets, so that the others use few of the 256 codes. The weights,
small and even, have room to spare. With ``s_j = max|X_j|^α / max|W_j|^(1-α)`` a larger α moves more of the range: at 1
the activations have equal ranges, at 0 the columns of the weights, and at 0.5 both share what was uneven.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Of the largest range: a channel with less counts as this. What calibration hardly saw may be large elsewhere, and
# would by its own small factor become an outlier there.
LEAST_RANGE = 1e-3


def larger_range(before: Tensor | None, activation: Tensor) -> Tensor:
    """The range (J,) of each channel, max|X_j|, from the range so far and more activations (T, J).

    >>> larger_range(torch.tensor([1.0, 5.0]), torch.tensor([[-3.0, 1.0], [2.0, 2.0]])).tolist()
    [3.0, 5.0]
    """
    found = activation.abs().amax(dim=0)
    return found if before is None else torch.maximum(before, found)


def weight_range(weights: Sequence[Tensor]) -> Tensor:
    """The range (J,) of each input channel, max|W_j|, over all weights (O, J) that read the same input.

    >>> weight_range([torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 1.0], [-3.0, 0.0]])]).tolist()
    [3.0, 2.0]
    """
    return torch.cat(list(weights)).abs().amax(dim=0)


def smoothing_factors(activation: Tensor, weight: Tensor, alpha: float) -> Tensor:
    """The factors s (J,) from the ranges (J,) of activation and weight: ``max|X_j|^α / max|W_j|^(1-α)``.

    >>> smoothing_factors(torch.tensor([16.0, 1.0]), torch.tensor([1.0, 1.0]), alpha=0.5).tolist()
    [4.0, 1.0]

    Ranges are clipped away from 0, at `LEAST_RANGE` of the largest; where all are 0 there is nothing to move.

    >>> smoothing_factors(torch.tensor([1000.0, 0.0]), torch.tensor([1.0, 1.0]), alpha=1.0).tolist()
    [1000.0, 1.0]
    >>> smoothing_factors(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0]), alpha=0.5).tolist()
    [1.0, 1.0]
    """
    if not activation.any() or not weight.any():
        return torch.ones_like(weight)
    x, w = (found.to(weight).clamp(min=LEAST_RANGE * float(found.max())) for found in (activation, weight))
    factors: Tensor = x**alpha / w ** (1 - alpha)
    return factors


def unevenness(ranges: Tensor) -> float:
    """The largest range of (J,) by the mean one: how many times finer one scale could be if all channels were alike.

    >>> unevenness(torch.tensor([9.0, 1.0, 2.0]))
    2.25
    """
    mean = float(ranges.mean())
    return float(ranges.max()) / mean if mean else 1.0
