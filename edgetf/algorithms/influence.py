"""How much a layer, a head, a neuron or a hidden dimension of a decoder does, asked by texts it has not to answer.

Block influence (Men et al. 2024, ShortGPT): a layer turns its input x into y; BI = 1 - E[cos(x, y)] over tokens. Where
it is near 0 the layer hardly turns the residual stream, and can go.

Activation (Muralidharan et al. 2024, Minitron): of a head the mean norm of what it gives, of a neuron and of a hidden
dimension the mean |activation|, over all tokens of the calibration texts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def block_influence(before: Tensor, after: Tensor) -> float:
    """1 - the mean cosine of a layer's input and output (..., H).

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> block_influence(x, 3 * x), block_influence(x, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    (0.0, 0.5)
    """
    there = before.norm(dim=-1) > 0  # a padding token may have an embedding of zeros, which has no direction
    return float(1 - torch.nn.functional.cosine_similarity(before, after, dim=-1)[there].mean())


def head_activity(attended: Tensor, heads: int) -> Tensor:
    """Mean norm (A,) of what each head gives, from all of them side by side (B, T, A · D).

    >>> head_activity(torch.tensor([[[3.0, 4.0, 0.0, 1.0]]]), 2).tolist()
    [5.0, 1.0]
    """
    activity: Tensor = torch.linalg.vector_norm(attended.view(*attended.shape[:2], heads, -1), dim=-1).mean(dim=(0, 1))
    return activity


def channel_activity(activation: Tensor) -> Tensor:
    """Mean |activation| (U,) of each channel of (B, T, U).

    >>> channel_activity(torch.tensor([[[1.0, -2.0], [3.0, 0.0]]])).tolist()
    [2.0, 1.0]
    """
    return activation.abs().mean(dim=(0, 1))


def norm_growth(residual: Tensor, kept: Tensor) -> float:
    """What a norm over the kept channels of (..., H) divides more by than one over all: the mean ratio of their roots.

    >>> round(norm_growth(torch.tensor([[3.0, 0.0], [2.0, 0.0]]), torch.tensor([0])) ** 2, 3)
    2.0
    """
    every, some = (part.pow(2).mean(dim=-1).sqrt() for part in (residual, residual.index_select(-1, kept)))
    there = every > 0
    return float((some[there] / every[there]).mean())
