"""Narrow a model to a shape, keeping in every layer the units that matter most."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgetf.algorithms.importance import most_important
from edgetf.models.families import family_of
from edgetf.models.families.family import Shape
from edgetf.models.slicing import (
    feed_forwards_of,
    heads_of,
    layers_of,
    model_shape,
    narrow_feed_forward,
    narrow_heads,
    narrow_hidden,
    neurons_of,
    record_shapes,
)
from edgetf.stages.importance import HIDDEN, Unit

Kept = dict[Unit, Tensor]


def choose(model: Any, shape: Shape, importance: dict[Unit, Tensor]) -> Kept:
    """The units (K,) of every part that stay; parts that are as narrow already are left out."""
    family, kept = family_of(model.config.model_type), {}
    for index, (layer, wanted) in enumerate(zip(layers_of(model), shape.layers, strict=True)):
        if wanted.heads < heads_of(model, layer):
            unit = (index, family.attention_output)
            kept[unit] = most_important(importance[unit], wanted.heads)
        for part, neurons in zip(feed_forwards_of(model), wanted.neurons, strict=True):
            if neurons < neurons_of(layer, part):
                unit = (index, part.down)
                kept[unit] = most_important(importance[unit], neurons)
    if shape.hidden_size < model_shape(model).hidden_size:
        kept[HIDDEN] = most_important(importance[HIDDEN], shape.hidden_size)
    return kept


def narrow(model: Any, kept: Kept) -> None:
    """Remove all but these units for real."""
    family = family_of(model.config.model_type)
    for index, layer in enumerate(layers_of(model)):
        heads = kept.get((index, family.attention_output))
        if heads is not None:
            narrow_heads(model, layer, heads.tolist())
        for part in feed_forwards_of(model):
            neurons = kept.get((index, part.down))
            if neurons is not None:
                narrow_feed_forward(layer, part, neurons)
    if HIDDEN in kept:
        narrow_hidden(model, kept[HIDDEN])
    record_shapes(model)


def shrink(model: Any, shape: Shape, importance: dict[Unit, Tensor]) -> None:
    """Narrow the model in place to the shape."""
    with torch.no_grad():
        narrow(model, choose(model, shape, importance))
