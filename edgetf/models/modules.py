"""What stands in a pruned model where a plain one has a projection, an attention or an embedding table."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class BiasOnly(nn.Module):
    """A projection that reads nothing any more: its bias (H,), which broadcasts over batch and tokens."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone())

    def forward(self, hidden: Tensor) -> Tensor:
        """The bias, whatever came in."""
        return self.bias


class NoAttention(nn.Module):
    """Stands where an attention without heads was; `bias` is given where that module held its output projection."""

    def __init__(self, bias: Tensor | None = None) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, *inputs: Any, **named: Any) -> tuple[Tensor, None]:
        """What the layer adds to its input, or passes to its output projection, and no attention weights."""
        if self.bias is not None:
            return self.bias, None
        hidden: Tensor = inputs[0] if inputs else named["hidden_states"]
        return hidden, None


class FactorizedEmbedding(nn.Module):
    """A word embedding (V, H) as a product of a table (V, E) and a projection (E, H)."""

    def __init__(self, table: nn.Embedding, wide: nn.Linear) -> None:
        super().__init__()
        self.table, self.wide = table, wide

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings (B, T, H) of ids (B, T)."""
        embedded: Tensor = self.wide(self.table(ids))
        return embedded

    def product(self) -> Tensor:
        """The table (V, H) that it stands for."""
        return self.table.weight @ self.wide.weight.T
