"""What each axis of each tensor of a decoder runs over, so that removing units is selecting along axes.

All families but GPT-2 name their parts as Llama does. GPT-2 holds query, key and value in one projection, its linear
layers the other way round, and the width of a head only as hidden_size / heads: its heads and hidden width stay.
"""

from __future__ import annotations

from typing import Any

from torch import nn

WORD, HIDDEN, QUERY, KEY, NEURON = "word", "hidden", "query", "key", "neuron"
_LLAMA = {
    "embed_tokens.weight": (WORD, HIDDEN), "lm_head.weight": (WORD, HIDDEN), "lm_head.bias": (WORD,),
    "q_proj.weight": (QUERY, HIDDEN), "q_proj.bias": (QUERY,),
    "k_proj.weight": (KEY, HIDDEN), "k_proj.bias": (KEY,),
    "v_proj.weight": (KEY, HIDDEN), "v_proj.bias": (KEY,),
    "o_proj.weight": (HIDDEN, QUERY), "o_proj.bias": (HIDDEN,),
    "gate_proj.weight": (NEURON, HIDDEN), "gate_proj.bias": (NEURON,),
    "up_proj.weight": (NEURON, HIDDEN), "up_proj.bias": (NEURON,),
    "down_proj.weight": (HIDDEN, NEURON), "down_proj.bias": (HIDDEN,),
    "input_layernorm.weight": (HIDDEN,), "post_attention_layernorm.weight": (HIDDEN,),
    "pre_feedforward_layernorm.weight": (HIDDEN,), "post_feedforward_layernorm.weight": (HIDDEN,),
    "norm.weight": (HIDDEN,),
}  # fmt: skip
_GPT2 = {
    "wte.weight": (WORD, HIDDEN), "lm_head.weight": (WORD, HIDDEN),
    "c_fc.weight": (HIDDEN, NEURON), "c_fc.bias": (NEURON,), "mlp.c_proj.weight": (NEURON, HIDDEN),
}  # fmt: skip


def axes_of(path: str) -> tuple[str, ...]:
    """The axes of a tensor by its path in the model; () where nothing is ever selected.

    >>> axes_of("model.layers.0.mlp.down_proj.weight"), axes_of("transformer.h.0.mlp.c_proj.weight")
    (('hidden', 'neuron'), ('neuron', 'hidden'))
    """
    known = _GPT2 if path.startswith("transformer.") else _LLAMA
    parts = path.split(".")
    return known.get(".".join(parts[-2:]), known.get(".".join(parts[-3:]), ()))


def is_gpt2(model: Any) -> bool:
    """Whether the parts stand where GPT-2 has them."""
    return bool(model.config.model_type == "gpt2")


def body_of(model: Any) -> nn.Module:
    """The model without its output layer."""
    body: nn.Module = model.transformer if is_gpt2(model) else model.model
    return body


def layers_of(model: Any) -> list[nn.Module]:
    """The layers, bottom first."""
    body: Any = body_of(model)
    return list(body.h if is_gpt2(model) else body.layers)


def attention_output(model: Any, layer: nn.Module) -> nn.Module:
    """What reads the heads of a layer side by side, (B, T, A · D)."""
    return layer.get_submodule("attn.c_proj" if is_gpt2(model) else "self_attn.o_proj")


def neurons_output(model: Any, layer: nn.Module) -> nn.Module:
    """What reads the neurons of a layer, (B, T, F)."""
    return layer.get_submodule("mlp.c_proj" if is_gpt2(model) else "mlp.down_proj")


def reading_norms(model: Any, layer: nn.Module) -> list[nn.Module]:
    """The norms whose outputs attention and feed-forward read, (B, T, H)."""
    if is_gpt2(model):
        return [layer.get_submodule("ln_1"), layer.get_submodule("ln_2")]
    second = "pre_feedforward_layernorm"  # of Gemma 2 and 3, where post_attention_layernorm is one
    names = dict(layer.named_children())
    return [names["input_layernorm"], names.get(second, names["post_attention_layernorm"])]


def norms_of(model: Any) -> dict[str, nn.Module]:
    """Every norm over the hidden width, by its path."""
    return {
        path.removesuffix(".weight"): model.get_submodule(path.removesuffix(".weight"))
        for path, _ in model.named_parameters()
        if axes_of(path) == (HIDDEN,) and path.endswith("norm.weight")
    }


def has_added_one(model: Any) -> bool:
    """Whether the norms multiply by 1 + weight, as Gemma's do."""
    return str(model.config.model_type).startswith("gemma")
