"""What stays makes up for what goes: least squares on the projection that reads the pruned units.

A projection reads U units of width D (neurons: D = 1; heads: D = the head's width) and computes ``Y = A Wᵀ + b`` from
their activations A (T, U · D). When only some units stay, what they give is off by what the others gave. With A the
K surviving columns, W0 (H, K) the surviving weights and Y (T, H) the dense output less its bias:

- new weights (ZipLM, Kurtic et al. 2023, arXiv 2302.04089, after Hassibi & Stork 1993):
  ``min over W of ‖A Wᵀ - Y‖² + λ ‖W - W0‖²``
- one factor a unit (Kwon et al. 2022, arXiv 2204.09656): ``min over m of ‖Σ m_u A_u W_uᵀ - Y‖² + λ ‖m - 1‖²``

λ is `ridge` times the mean diagonal of the normal equations. It pulls toward the weights as they were, so few rows
move little, what no row speaks of does not move at all, and on these rows the fit is never worse than before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Below this, rounding in the normal equations of a few thousand columns outweighs the ridge.
LEAST_RIDGE = 1e-10


@dataclass
class Moments:
    """All that least squares need to know of any number of rows.

    The sums are float64: normal equations square the condition number, and activations have a few columns many times
    larger than the rest, beside which float32 loses the small directions that make up for the removed units.
    """

    gram: Tensor  # (K, K), AᵀA
    cross: Tensor  # (K, H), AᵀY
    count: int  # rows seen

    @classmethod
    def empty(cls, inputs: int, outputs: int) -> Moments:
        """No rows yet, of K inputs and H outputs."""
        exact = torch.float64
        return cls(torch.zeros(inputs, inputs, dtype=exact), torch.zeros(inputs, outputs, dtype=exact), 0)

    def add(self, activation: Tensor, wanted: Tensor) -> None:
        """Take in rows: what the kept units give (T, K), and the dense output without its bias (T, H)."""
        activation, wanted = activation.detach().to(self.gram), wanted.detach().to(self.gram)
        self.gram.addmm_(activation.T, activation)
        self.cross.addmm_(activation.T, wanted)
        self.count += activation.shape[0]


def solve_weights(moments: Moments, start: Tensor, ridge: float) -> Tensor:
    """New weights (H, K), as near to those that survived, `start` (H, K), as `ridge` asks.

    The second of two equal inputs is gone, so the first one's weight doubles:

    >>> moments = Moments.empty(1, 1)
    >>> moments.add(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]))
    >>> round(solve_weights(moments, torch.tensor([[1.0]]), ridge=0.0).item(), 6)
    2.0
    """
    before = start.detach().to(moments.gram)
    change = _solve(moments.gram, moments.cross - moments.gram @ before.T, ridge)
    return (before + change.T).to(start)


def solve_masks(moments: Moments, weight: Tensor, width: int, ridge: float) -> Tensor:
    """One factor (K / D,) for each kept unit, from the weights (H, K) that survived and the units' `width` D.

    The normal equations come from the moments alone: ``G_uv = Σ over i in u, j in v of (AᵀA)_ij (WᵀW)_ij``.

    >>> moments = Moments.empty(2, 1)
    >>> moments.add(torch.tensor([[1.0, 1.0], [2.0, 0.0]]), torch.tensor([[4.0], [4.0]]))
    >>> [round(factor, 6) for factor in solve_masks(moments, torch.tensor([[1.0, 1.0]]), 1, ridge=0.0).tolist()]
    [2.0, 2.0]
    """
    exact = weight.detach().to(moments.gram)
    units = exact.shape[1] // width
    gram = (moments.gram * (exact.T @ exact)).reshape(units, width, units, width).sum(dim=(1, 3))  # (U, U)
    right = (moments.cross * exact.T).reshape(units, -1).sum(dim=1)  # (U,)
    change = _solve(gram, (right - gram.sum(dim=1))[:, None], ridge)[:, 0]
    return (1 + change).to(weight)


def _solve(gram: Tensor, right: Tensor, ridge: float) -> Tensor:
    """The (K, M) that solves ``(gram + λ I) x = right``, for a gram (K, K) that may be singular."""
    damping = max(ridge, LEAST_RIDGE) * gram.diagonal().mean().item()
    damped = gram.clone()
    damped.diagonal().add_(damping or 1.0)  # 0: no activation was ever non-zero, and any damping keeps the start
    return torch.cholesky_solve(right, torch.linalg.cholesky(damped))
