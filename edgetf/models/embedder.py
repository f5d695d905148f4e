"""An encoder whose answer is one vector a text: the mean of its tokens, or the first one, of length 1 where asked to.

Sentence-BERT (Reimers & Gurevych 2019) pools like this. The encoder hangs under its family's name, as in transformers'
own classes, so that all that takes a model apart by paths finds its parts; on disk it is the plain encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from edgetf.config.tasks import PoolingConfig


class Pooled(NamedTuple):
    """The vectors (B, H), under the name that the answer of a transformers head has."""

    logits: Tensor


def pool(states: Tensor, mask: Tensor, pooling: PoolingConfig) -> Tensor:
    """Vectors (B, H) of hidden states (B, T, H), padding left out by `mask` (B, T).

    >>> import torch
    >>> states = torch.tensor([[[3.0, 4.0], [9.0, 9.0]]])
    >>> pool(states, torch.tensor([[1, 0]]), PoolingConfig()).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    if pooling.tokens == "first":
        vectors = states[:, 0]
    else:
        weight = mask[:, :, None].to(states.dtype)
        vectors = (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
    return F.normalize(vectors, dim=-1) if pooling.normalize else vectors


class Embedder(nn.Module):
    """The encoder with its pooling."""

    def __init__(self, encoder: Any, pooling: PoolingConfig) -> None:
        super().__init__()
        self.base_model_prefix = str(encoder.base_model_prefix)
        self.pooling = pooling
        self.add_module(self.base_model_prefix, encoder)

    @property
    def encoder(self) -> Any:
        """The transformers model."""
        return self.get_submodule(self.base_model_prefix)

    @property
    def config(self) -> Any:
        """Its config."""
        return self.encoder.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Pooled:
        """The vector of each row of (B, T)."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        return Pooled(pool(states, attention_mask, self.pooling))

    def get_input_embeddings(self) -> nn.Module:
        """The word embedding."""
        words: nn.Module = self.encoder.get_input_embeddings()
        return words

    def save_pretrained(self, folder: Path, **options: Any) -> None:
        """Write the encoder."""
        self.encoder.save_pretrained(folder, **options)

    def _init_weights(self, module: nn.Module) -> None:
        self.encoder._init_weights(module)
