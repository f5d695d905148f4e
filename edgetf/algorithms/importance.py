"""How much a neuron or a head matters, and which to keep.

Magnitude: the norm of a neuron's incoming weights times that of its outgoing ones.

First-order Taylor (Molchanov et al. 2017; for heads Michel et al. 2019): removing a unit with activation a changes
the loss L by about ``a · dL/da``, so its importance is the sum over rows of ``|Σ over tokens a · dL/da|``. What stands
between the bars is the gradient by a mask on the unit; the sum of its squares is the diagonal of the empirical Fisher
information (Kwon et al. 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor


def neuron_magnitude(up: Tensor, down: Tensor) -> Tensor:
    """Importance (F,) from the weights up (F, H) and down (H, F).

    >>> neuron_magnitude(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.eye(2)).tolist()
    [5.0, 1.0]
    """
    incoming, outgoing = torch.linalg.vector_norm(up, dim=1), torch.linalg.vector_norm(down, dim=0)
    importance: Tensor = incoming * outgoing
    return importance


def head_magnitude(output: Tensor, heads: int) -> Tensor:
    """Importance (A,) of the heads from the output projection (H, A · D)."""
    return output.view(output.shape[0], heads, -1).pow(2).sum(dim=(0, 2)).sqrt()


def mask_gradients(activation: Tensor, gradient: Tensor, units: int) -> Tensor:
    """Gradient (B, U) of each row's loss by masks on the units, from an activation (B, T, U · D) and its gradient.

    >>> a = torch.tensor([[[1.0, 2.0]], [[1.0, 0.0]]])
    >>> mask_gradients(a, torch.tensor([[[2.0, 1.0]], [[-2.0, 1.0]]]), 2).tolist()
    [[2.0, 2.0], [-2.0, 0.0]]
    """
    change = (activation * gradient).view(activation.shape[0], activation.shape[1], units, -1)
    return change.sum(dim=(1, 3))


def most_important(importance: Tensor, keep: int) -> Tensor:
    """The positions of the `keep` most important units, ascending; ties go to the lower position.

    >>> most_important(torch.tensor([0.1, 0.9, 0.5]), 2).tolist()
    [1, 2]
    """
    order = importance.argsort(descending=True, stable=True)
    return order[:keep].sort().values
