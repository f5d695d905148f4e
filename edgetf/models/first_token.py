"""Compute of the last layer only what the classifier reads: the first token.

BERT-like classifiers look at one token of the last hidden state. Of the last attention, that token needs keys and
values of all tokens, but its own query only; the output projection, the feed-forward and the norms need one row. The
logits stay what they were. A shallow student, whose last layer is a large part of it, gains most.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from edgetf.models.families import family_of
from edgetf.models.slicing import heads_of, layers_of, linear_at


class FirstTokenLayer(nn.Module):
    """An encoder layer, norms after each part, that gives its first token (B, 1, H) of hidden states (B, T, H)."""

    def __init__(self, model: Any, layer: nn.Module, in_tuple: bool) -> None:
        super().__init__()
        family = family_of(model.config.model_type)
        paths = family.post_norms
        if paths is None:
            raise ValueError(f"{family.model_type}: its layers are not attention, norm, feed-forward, norm")
        self.heads, self.in_tuple = heads_of(model, layer), in_tuple
        self.width = linear_at(layer, family.query).out_features // self.heads
        self.query, self.key, self.value, self.output = (
            layer.get_submodule(path) for path in (family.query, family.key, family.value, family.attention_output)
        )
        (part,) = family.feed_forwards(model.config.to_dict())
        self.up, self.down = layer.get_submodule(part.up), layer.get_submodule(part.down)
        self.attention_norm = layer.get_submodule(paths.attention_norm)
        self.activation = layer.get_submodule(part.activation)
        self.output_norm = layer.get_submodule(paths.output_norm)

    def forward(self, hidden: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Any:
        """What the layer gives for the first token; in a tuple where the encoder around it expects one."""
        first = hidden[:, :1]
        attended = self.attention_norm(self.output(self._context(first, hidden, mask)) + first)
        fed = self.down(self.activation(self.up(attended)))
        made = self.output_norm(fed + attended)
        return (made,) if self.in_tuple else made

    def _context(self, first: Tensor, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """What the heads gather for the first token, (B, 1, A · D)."""
        rows, width = hidden.shape[0], self.width

        def by_head(states: Tensor) -> Tensor:
            return states.view(rows, -1, self.heads, width).transpose(1, 2)  # (B, A, T, D)

        query, key, value = by_head(self.query(first)), by_head(self.key(hidden)), by_head(self.value(hidden))
        scores = query @ key.transpose(2, 3) * width**-0.5  # (B, A, 1, T)
        if mask is not None:
            scores = scores + additive(mask, scores.dtype)
        context: Tensor = (scores.softmax(dim=-1) @ value).transpose(1, 2)
        return context.reshape(rows, 1, self.heads * width)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores (B, A, 1, T) of the first token, from any of the masks that a layer may get.

    A mask (B, T) has 1 where a token is real, as in DistilBERT's eager attention; one of four dimensions is additive.
    """
    if mask.dim() == 2:
        return (1 - mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min
    return mask[:, :, :1, :]


def first_token_only(model: Any) -> Any:
    """A copy of a classifier whose last attention, and all above it, work on the first token; else the model itself.

    Layers whose attention is gone act on every token alone, so that what is cut is the last layer with heads.
    """
    family = family_of(model.config.model_type)
    attending = [index for index, layer in enumerate(layers_of(model)) if heads_of(model, layer)]
    positions = getattr(model.config, "position_embedding_type", None) or "absolute"
    if family.post_norms is None or not attending or (_in_tuple() and positions != "absolute"):
        return model  # relative positions act inside the attention, before transformers 5, which has dropped them
    copied = copy.deepcopy(model)
    copied.config.output_attentions = False  # the cut layer gives none
    layers = copied.get_submodule(family.layers)
    layers[attending[-1]] = FirstTokenLayer(copied, layers[attending[-1]], _in_tuple())
    return copied


def _in_tuple() -> bool:
    """Whether layers give a tuple, as they did before transformers 5."""
    from transformers import __version__

    return int(__version__.split(".")[0]) < 5
