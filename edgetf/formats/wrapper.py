"""The graph that ships: ids in, logits or a vector out, whatever the family's own arguments are called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgetf.models.families import family_of


class LogitsOnly(nn.Module):
    """A model as a function of positional tensors (B, T) that gives its answer, logits (B, C) or vectors (B, H)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.token_types = family_of(model.config.model_type).takes_token_types

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs of the graph, in order."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        return names if self.token_types else names[:2]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """The answer (B, C)."""
        named = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            named["token_type_ids"] = token_type_ids
        logits: Tensor = self.model(**named).logits
        return logits

    def sample(self, batch: int, tokens: int, dtype: torch.dtype = torch.int64) -> tuple[Tensor, ...]:
        """Inputs of that shape, for tracing."""
        ids = torch.ones((batch, tokens), dtype=dtype)
        return tuple(ids.clone() for _ in self.input_names)
