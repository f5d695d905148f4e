"""Remove heads and neurons for real: smaller dense layers, so that any runtime gets the speed.

A feed-forward computes ``y = W_down @ act(W_up @ x + b_up) + b_down``; neuron j is row j of W_up and b_up with column
j of W_down. A head is a block of rows of the query, key and value projections with the same columns of the output
projection. Removing them all equals multiplying the neuron or head by zero.

Shapes that a plain Hugging Face config cannot say stand in ``config.edgetf["layers"]``, one entry a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgetf.models.families import family_of
from edgetf.models.families.family import Family, FeedForward

LayerShape = dict[str, Any]


def layers_of(model: Any) -> list[nn.Module]:
    """The encoder layers, bottom first."""
    return list(model.get_submodule(family_of(model.config.model_type).layers))


def feed_forwards_of(model: Any) -> tuple[FeedForward, ...]:
    """The feed-forwards that every layer of this model has."""
    return family_of(model.config.model_type).feed_forwards(model.config.to_dict())


def heads_of(model: Any, layer: nn.Module) -> int:
    """Attention heads of one layer."""
    family = family_of(model.config.model_type)
    return int(getattr(layer.get_submodule(family.attention), family.head_count[0]))


def keep_outputs(linear: nn.Linear, kept: Tensor) -> nn.Linear:
    """The layer with only these rows, ``kept`` of shape (K,)."""
    return _linear(linear.weight[kept], linear.bias[kept] if linear.bias is not None else None)


def keep_inputs(linear: nn.Linear, kept: Tensor) -> nn.Linear:
    """The layer with only these columns, ``kept`` of shape (K,)."""
    return _linear(linear.weight[:, kept], linear.bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made


def narrow_feed_forward(layer: nn.Module, part: FeedForward, kept: Tensor) -> None:
    """Keep these neurons, ``kept`` of shape (K,), ascending."""
    layer.set_submodule(part.up, keep_outputs(linear_at(layer, part.up), kept))
    layer.set_submodule(part.down, keep_inputs(linear_at(layer, part.down), kept))


def narrow_heads(model: Any, layer: nn.Module, kept: Sequence[int]) -> None:
    """Keep these heads of one layer."""
    family = family_of(model.config.model_type)
    width = linear_at(layer, family.query).out_features // heads_of(model, layer)
    rows = torch.cat([torch.arange(head * width, (head + 1) * width) for head in kept])
    for path in (family.query, family.key, family.value):
        layer.set_submodule(path, keep_outputs(linear_at(layer, path), rows))
    layer.set_submodule(family.attention_output, keep_inputs(linear_at(layer, family.attention_output), rows))
    _say_heads(family, layer, len(kept), width)


def _say_heads(family: Family, layer: nn.Module, heads: int, width: int) -> None:
    """The attention module reads its shape from attributes."""
    attention = layer.get_submodule(family.attention)
    for name in family.head_count:
        setattr(attention, name, heads)
    for name in family.head_width:
        setattr(attention, name, heads * width)


def linear_at(layer: nn.Module, path: str) -> nn.Linear:
    """The linear projection at a path inside a layer."""
    module = layer.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise TypeError(f"{path} is a {type(module).__name__}, expected Linear")
    return module


def record_shapes(model: Any) -> None:
    """Write the layers' shapes into the config, so that the checkpoint reloads.

    Uniform neurons go to the plain config field and need nothing of ours; heads that went do, because a plain config
    derives the width of a head from their number.
    """
    family, config = family_of(model.config.model_type), model.config
    parts = feed_forwards_of(model)
    shapes: list[LayerShape] = [
        {
            "num_attention_heads": heads_of(model, layer),
            "intermediate_sizes": [linear_at(layer, part.up).out_features for part in parts],
        }
        for layer in layers_of(model)
    ]
    widths = {width for shape in shapes for width in shape["intermediate_sizes"]}
    if len(widths) == 1:
        setattr(config, family.intermediate_size, widths.pop())
    plain_heads = getattr(config, family.num_attention_heads)
    plain_width = getattr(config, family.intermediate_size)
    uniform = all(
        shape["num_attention_heads"] == plain_heads and set(shape["intermediate_sizes"]) == {plain_width}
        for shape in shapes
    )
    if uniform:
        config.__dict__.pop("edgetf", None)
    else:
        config.edgetf = {"layers": shapes}


def apply_shapes(model: Any) -> None:
    """Give a freshly built model the shapes that its config records; the weights come afterwards."""
    record = getattr(model.config, "edgetf", None)
    if not record:
        return
    family, parts = family_of(model.config.model_type), feed_forwards_of(model)
    for layer, shape in zip(layers_of(model), record["layers"], strict=True):
        width = linear_at(layer, family.query).out_features // heads_of(model, layer)
        heads = shape["num_attention_heads"]
        if heads != heads_of(model, layer):
            narrow_heads(model, layer, range(heads))
        _say_heads(family, layer, heads, width)
        for part, neurons in zip(parts, shape["intermediate_sizes"], strict=True):
            if neurons != linear_at(layer, part.up).out_features:
                narrow_feed_forward(layer, part, torch.arange(neurons))
