"""INT8 as training sees it: round in the forward pass, and let gradients through as if nothing had been rounded.

The straight-through estimator (Bengio et al. 2013; for networks in INT8 Jacob et al. 2018): ``x + (round(x) - x)`` with
the bracket held constant. No value lies outside of the ranges here, which are those of the very values, so that no
gradient is cut off.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_SCALE = 1e-12  # of a range that is 0


def round_texts(states: Tensor) -> Tensor:
    """States (B, …) in 256 steps from least to most, 0 being one of them; a scale and a zero point for each text.

    This is onnxruntime's DynamicQuantizeLinear on one text at a time: ``s = (max - min) / 255``, and
    ``s (round(x / s) + z - z)`` with the zero point ``z = round(-min / s)``.

    >>> round_texts(torch.tensor([[0.0, 1.2, 255.0], [0.0, 1.2, 2.55]])).tolist()
    [[0.0, 1.0, 255.0], [0.0, 1.1999999284744263, 2.549999952316284]]
    """
    with torch.no_grad():
        exact = states.float()  # mixed precision has too few digits to count the steps
        within = tuple(range(1, states.dim()))
        low, high = exact.amin(within, keepdim=True).clamp(max=0), exact.amax(within, keepdim=True).clamp(min=0)
        scale = ((high - low) / 255).clamp(min=_LEAST_SCALE)
        zero = (-low / scale).round()
        rounded = ((exact / scale).round() + zero).clamp(0, 255).sub(zero) * scale
        change = rounded.to(states.dtype) - states
    return states + change


def round_table(weight: Tensor) -> Tensor:
    """A table (V, H) in steps of its largest entry by 127, one scale for all: onnxruntime's embeddings.

    >>> round_table(torch.tensor([[127.0, -0.4], [0.6, -1.2]])).tolist()
    [[127.0, 0.0], [1.0, -1.0]]
    """
    with torch.no_grad():
        scale = (weight.abs().amax() / 127).clamp(min=_LEAST_SCALE)
        change = (weight / scale).round() * scale - weight
    return weight + change
