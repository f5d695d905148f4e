"""The shape of a model, as its config says it: what structured pruning changes, and what the cost rests on.

A plain Hugging Face config has one number of heads and neurons for all layers, and heads that share the hidden size
evenly. Where that is not enough, ``config.edgetf`` holds the shape, and the plain fields those of a model that can be
built and then narrowed to it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from edgetf.models.families import family_of
from edgetf.models.families.family import Config, Cost, Family, LayerShape, Shape

RECORD = "edgetf"


def plain_shape(config: Config) -> Shape:
    """The shape that the plain fields say."""
    family = family_of(config["model_type"])
    heads, hidden = int(config[family.num_attention_heads]), int(config[family.hidden_size])
    width = hidden if family.attention_width is None else int(config[family.attention_width])
    parts = len(family.feed_forwards(config))
    layer = LayerShape(heads, (int(config[family.intermediate_size]),) * parts)
    return Shape(hidden, width // heads, (layer,) * int(config[family.num_hidden_layers]))


def shape_of(config: Config) -> Shape:
    """The shape of the model behind a config."""
    record = config.get(RECORD)
    if not record:
        return plain_shape(config)
    layers = tuple(LayerShape(layer["heads"], tuple(layer["neurons"])) for layer in record["layers"])
    return Shape(record["hidden_size"], record["head_width"], layers, record["embedding_size"])


def with_shape(config: Config, shape: Shape) -> dict[str, Any]:
    """The config of a model of this shape: in plain fields where they can say it, else with a record beside them."""
    family = family_of(config["model_type"])
    made = {**config, family.num_hidden_layers: len(shape.layers)}
    made.pop(RECORD, None)
    layer = _uniform(shape)
    if layer is not None:  # what can be plain is, so that other tools see how wide the layers are
        made[family.intermediate_size] = layer.neurons[0]
    plain = {**made, **_plain_fields(family, shape)}
    shared = layer is not None and layer.heads * shape.head_width == shape.hidden_size
    if layer is not None and (shared or family.attention_width) and plain_shape(plain) == shape:
        return plain
    return {**made, RECORD: asdict(shape)}


def _uniform(shape: Shape) -> LayerShape | None:
    """The shape of every layer, if they are all alike, with equal and at least one head and neuron."""
    first = shape.layers[0]
    alike = all(layer == first for layer in shape.layers) and len(set(first.neurons)) == 1
    return first if alike and first.heads and first.neurons[0] else None


def _plain_fields(family: Family, shape: Shape) -> dict[str, int]:
    fields = {family.hidden_size: shape.hidden_size}
    if family.attention_width is None:
        fields[family.num_attention_heads] = shape.layers[0].heads
    return fields


def narrowed_layers(shape: Shape, heads: int | None, neurons: int | None) -> Shape:
    """The shape with so many heads and neurons in every layer, where it is not narrower already."""

    def narrow(layer: LayerShape) -> LayerShape:
        kept = tuple(width if neurons is None else min(width, neurons) for width in layer.neurons)
        return LayerShape(layer.heads if heads is None else min(layer.heads, heads), kept)

    return replace(shape, layers=tuple(narrow(layer) for layer in shape.layers))


def cost_of(config: Config, seq_len: int) -> Cost:
    """Weights, multiply-accumulates and operators of one forward pass of `seq_len` tokens."""
    return family_of(config["model_type"]).cost(config, shape_of(config), seq_len)
