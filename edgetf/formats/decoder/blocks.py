"""The weights of Llama-shaped decoders, layer by layer, under names that hold for every family.

A layer computes, with RMS norms n and residual x:

    x = x + post_attention(W_o attention(W_qkv input(x)))
    x = x + post_feed_forward(W_down (act(W_gate pre(x)) * W_up pre(x)))

Only Gemma 3 has norms after a part, Qwen 3 and Gemma 3 have norms on each query and key, and the norms of both Gemmas
multiply by 1 + w.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgetf.core.metrics import Floats

FAMILIES = ("llama", "qwen2", "qwen3", "gemma", "gemma3_text")
ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclass(frozen=True)
class Linear:
    """A product with a weight (out, in), and the path of its module."""

    path: str
    weight: Floats
    bias: Floats | None = None


@dataclass(frozen=True)
class Norm:
    """An RMS norm: x / sqrt(mean(x²) + epsilon) * weight, (H,) or (D,)."""

    path: str
    weight: Floats
    epsilon: float


@dataclass(frozen=True)
class Block:
    """One layer. The rows of `qkv` are those of all queries, then all keys, then all values."""

    path: str
    input_norm: Norm
    qkv: Linear
    head_norms: tuple[Norm, Norm] | None  # of each query and each key
    scale: float  # of the scores
    output: Linear
    post_attention_norm: Norm | None
    feed_forward_norm: Norm
    gate: Linear
    up: Linear
    down: Linear
    post_feed_forward_norm: Norm | None


@dataclass(frozen=True)
class Blocks:
    """A whole decoder. `head` is None where the embedding is the output layer too."""

    embedding: Floats  # (V, H)
    embedding_scale: float
    layers: tuple[Block, ...]
    final_norm: Norm
    head: Linear | None
    activation: Literal["silu", "gelu_tanh"]


def why_not(model: Any) -> str | None:
    """Why a decoder has no such blocks, in a few words, or None."""
    config = model.config
    act = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    if config.model_type not in FAMILIES:
        return f"the family {config.model_type} is none of {', '.join(FAMILIES)}"
    if act not in ACTIVATIONS:
        return f"its activation {act} is none of {', '.join(ACTIVATIONS)}"
    if getattr(config, "final_logit_softcapping", None) or getattr(config, "attn_logit_softcapping", None):
        return "its logits or scores are capped"
    if getattr(config, "use_bidirectional_attention", False):
        return "its attention looks ahead"
    return None


def read_blocks(model: Any) -> Blocks:
    """The weights of a model for which `why_not` is None, as float32 arrays."""
    gemma = model.config.model_type in ("gemma", "gemma3_text")
    body, table = model.model, _array(model.get_input_embeddings().weight)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    act = getattr(model.config, "hidden_activation", None) or model.config.hidden_act
    return Blocks(
        embedding=table,
        embedding_scale=model.config.hidden_size**0.5 if gemma else 1.0,
        layers=tuple(_layers(body, gemma)),
        final_norm=_norm("model.norm", body.norm, gemma),
        head=None if tied else _linear("lm_head", model.lm_head),
        activation=ACTIVATIONS[act],
    )


def _layers(body: Any, gemma: bool) -> Iterator[Block]:
    for index, layer in enumerate(body.layers):
        path, attention, feed_forward = f"model.layers.{index}", layer.self_attn, layer.mlp
        after_parts = hasattr(layer, "post_feedforward_layernorm")
        norms = [
            _norm(f"{path}.self_attn.{name}", getattr(attention, name), gemma)
            for name in ("q_norm", "k_norm")
            if getattr(attention, name, None) is not None
        ]

        def norm(name: str, path: str = path, layer: Any = layer) -> Norm:
            return _norm(f"{path}.{name}", getattr(layer, name), gemma)

        yield Block(
            path=path,
            input_norm=norm("input_layernorm"),
            qkv=_stack(f"{path}.self_attn.qkv_proj", [attention.q_proj, attention.k_proj, attention.v_proj]),
            head_norms=(norms[0], norms[1]) if norms else None,
            scale=float(attention.scaling),
            output=_linear(f"{path}.self_attn.o_proj", attention.o_proj),
            post_attention_norm=norm("post_attention_layernorm") if after_parts else None,
            feed_forward_norm=norm("pre_feedforward_layernorm" if after_parts else "post_attention_layernorm"),
            gate=_linear(f"{path}.mlp.gate_proj", feed_forward.gate_proj),
            up=_linear(f"{path}.mlp.up_proj", feed_forward.up_proj),
            down=_linear(f"{path}.mlp.down_proj", feed_forward.down_proj),
            post_feed_forward_norm=norm("post_feedforward_layernorm") if after_parts else None,
        )


def _array(parameter: Any) -> Floats:
    return np.ascontiguousarray(parameter.detach().float().cpu().numpy())


def _linear(path: str, module: Any) -> Linear:
    return Linear(path, _array(module.weight), None if module.bias is None else _array(module.bias))


def _stack(path: str, modules: list[Any]) -> Linear:
    """One product for several of the same input."""
    biases = [_array(module.bias) for module in modules if module.bias is not None]
    weight = np.concatenate([_array(module.weight) for module in modules])
    return Linear(path, weight, np.concatenate(biases) if biases else None)


def _norm(path: str, module: Any, gemma: bool) -> Norm:
    epsilon = module.eps if gemma else module.variance_epsilon
    return Norm(path, _array(module.weight) + (1.0 if gemma else 0.0), float(epsilon))
