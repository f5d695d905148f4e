"""Take a decoder apart: another config, and a model of it that holds the parts that stay.

The smaller model is made anew from its config, so that what comes out is what a plain Hugging Face folder reloads.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgetf.core.quiet import quiet
from edgetf.models.decoders.configs import older_form
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
    paths = {"model.embed_tokens.weight", "transformer.wte.weight", "lm_head.weight", "lm_head.bias"}
    rows = torch.as_tensor(kept)
    tensors = {path: tensor[rows] if path in paths else tensor for path, tensor in model.state_dict().items()}
    made = rebuilt(model, {**token_ids(record, new_of), "vocab_size": len(kept)}, tensors)
    for name, number in token_ids(model.generation_config.to_dict(), new_of).items():
        setattr(made.generation_config, name, number)
    return made


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
