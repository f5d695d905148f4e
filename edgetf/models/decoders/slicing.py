"""Take a decoder apart: another config, and a model of it that holds the parts that stay.

The smaller model is made anew from its config, so that what comes out is what a plain Hugging Face folder reloads.
Removing units equals multiplying them by zero. For a hidden dimension the norms must see to that: RMSNorm divides by
the root of the mean square over H dimensions, which over the H' that stay is √(H / H') larger where the others are
zero. So the norm's weights are multiplied by that, and what it adds to the mean square by its square; or, where the
others are not zero, the weights by what calibration texts show (`norm_factors`). Gemma multiplies its embedding by √H:
its rows take up what √H' lacks, and where the output layer is the same tensor, the last norm takes it away again.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgetf.core.quiet import quiet
from edgetf.models.decoders.axes import (
    HIDDEN,
    KEY,
    NEURON,
    QUERY,
    WORD,
    axes_of,
    has_added_one,
    is_gpt2,
    norms_of,
)
from edgetf.models.decoders.configs import older_form
from edgetf.models.decoders.shapes import DecoderShape, changes_of, shape_of
from edgetf.models.vocabulary import token_ids

_LAYER = re.compile(r"^(model\.layers|transformer\.h)\.(\d+)\.")


def keep_layers(model: Any, kept: Sequence[int]) -> Any:
    """A copy of the model with these layers, bottom first; Gemma's local and global layers stay what they were."""
    record = older_form(model.config.to_dict())
    name = "n_layer" if record["model_type"] == "gpt2" else "num_hidden_layers"
    changes: dict[str, Any] = {name: len(kept)}
    if record.get("layer_types"):
        changes["layer_types"] = [record["layer_types"][layer] for layer in kept]
    new_of = {old: new for new, old in enumerate(kept)}
    tensors: dict[str, Tensor] = {}
    for path, tensor in model.state_dict().items():
        found = _LAYER.match(path)
        if found is None:
            tensors[path] = tensor
        elif (old := int(found[2])) in new_of:
            tensors[f"{found[1]}.{new_of[old]}.{path[found.end() :]}"] = tensor
    return rebuilt(model, changes, tensors)


def keep_tokens(model: Any, kept: Sequence[int]) -> Any:
    """A copy of the model with these rows of its embedding and output layer, and its special tokens renumbered."""
    record = older_form(model.config.to_dict())
    new_of = {old: new for new, old in enumerate(kept)}
    rows = torch.as_tensor(kept)
    tensors = {path: _selected(path, tensor, {WORD: rows}) for path, tensor in model.state_dict().items()}
    made = rebuilt(model, {**token_ids(record, new_of), "vocab_size": len(kept)}, tensors)
    for name, number in token_ids(model.generation_config.to_dict(), new_of).items():
        setattr(made.generation_config, name, number)
    return made


@dataclass(frozen=True)
class KeptUnits:
    """What stays of one layer: the query heads of every kept KV group, and the neurons; numbered as they are now."""

    groups: Mapping[int, Sequence[int]]
    neurons: Sequence[int]


def narrow(
    model: Any, layers: Sequence[KeptUnits], hidden: Sequence[int], norm_factors: Mapping[str, float] | None = None
) -> Any:
    """A copy of the model with these units of its layers and these hidden dimensions.

    `norm_factors` says of norms, by their paths, what their weights are multiplied by; √(H / H') where it does not.
    """
    before = shape_of(model.config)
    first = layers[0]
    heads = len(next(iter(first.groups.values())))
    shape = DecoderShape(len(layers), len(first.groups), heads, len(first.neurons), len(hidden))
    changes = changes_of(model.config, shape)
    width = int(changes.get("head_dim", 1))
    wide = {HIDDEN: torch.as_tensor(hidden)}
    units = [
        {
            QUERY: _blocks([head for group in layer.groups.values() for head in group], width),
            KEY: _blocks(list(layer.groups), width),
            NEURON: torch.as_tensor(layer.neurons),
        }
        for layer in layers
    ]
    if is_gpt2(model):  # its heads and its hidden width stay, and its biases have no other axis
        wide, units = {}, [{NEURON: layer[NEURON]} for layer in units]
    tensors = {}
    for path, tensor in model.state_dict().items():
        found = _LAYER.match(path)
        tensors[path] = _selected(path, tensor, wide | units[int(found[2])] if found else wide)
    if shape.hidden != before.hidden:
        _rescale(model, tensors, math.sqrt(before.hidden / shape.hidden), norm_factors or {})
    return rebuilt(model, changes, tensors)


def _selected(path: str, tensor: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
    for dimension, axis in enumerate(axes_of(path)):
        if axis in kept:
            tensor = tensor.index_select(dimension, kept[axis])
    return tensor


def _blocks(heads: Sequence[int], width: int) -> Tensor:
    """The rows of these heads.

    >>> _blocks([2, 0], 2).tolist()
    [4, 5, 0, 1]
    """
    return (torch.as_tensor(heads)[:, None] * width + torch.arange(width)).flatten()


def _rescale(model: Any, tensors: dict[str, Tensor], usual: float, factors: Mapping[str, float]) -> None:
    """Let the norms, and Gemma's embedding, give in H' dimensions what they gave in H."""
    one = 1.0 if has_added_one(model) else 0.0
    scaled = has_added_one(model)  # Gemma's embedding, too
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for path in norms_of(model):
        factor = factors.get(path, usual)
        if path == "model.norm" and scaled and tied:
            factor /= usual
        tensors[f"{path}.weight"] = (tensors[f"{path}.weight"] + one) * factor - one
    if scaled:
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"] * usual
        if tied:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]


def rebuilt(model: Any, changes: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """A new model of the same family, in eval mode, of the config with these changes and with copies of the tensors."""
    from transformers import AutoConfig, AutoModelForCausalLM

    record = {**older_form(model.config.to_dict()), **changes}
    kind = record.pop("model_type")
    attention = model.config._attn_implementation
    with quiet():
        config = AutoConfig.for_model(kind, **record)
        made: Any = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    made.load_state_dict(tensors)
    made.tie_weights()
    made.generation_config = copy.deepcopy(model.generation_config)
    return made.float().eval()
