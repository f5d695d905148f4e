"""Several models of one task as one, whose answer is the mean of theirs.

What an ensemble knows can be taught to one small model (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a
Neural Network", section 3). The mean of the logits is that of the log-probabilities, but for a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Models with the same inputs and classes; `logits` has the shape of each one's."""

    def __init__(self, models: Sequence[Any]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.config = models[0].config

    def forward(self, **inputs: Tensor) -> SimpleNamespace:
        """The mean of their logits, in float32."""
        every = torch.stack([model(**inputs).logits.float() for model in self.models])
        return SimpleNamespace(logits=every.mean(dim=0))
