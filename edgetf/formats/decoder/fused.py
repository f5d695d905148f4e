"""A Llama-shaped decoder as a small graph of ONNX Runtime's own operators.

Attention with its cache, rotation and head norms is one operator (GroupQueryAttention), a sum and its norm another
(SkipSimplifiedLayerNormalization), and a tied embedding is stored once: the output layer multiplies by it transposed
(FusedMatMul). The tables of rotation are written as arithmetic on constants, which the runtime does when it opens the
file, so that a long context costs no bytes in it.

    angle(position p, pair i of D/2) = p f_i, by edgetf.core.rope

Su et al. 2021, RoFormer; operators: docs/ContribOperators.md of microsoft/onnxruntime.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.core.rope import frequencies
from edgetf.formats.decoder.blocks import Block, Blocks, Linear, Norm, read_blocks
from edgetf.formats.decoder.graph import MICROSOFT, Graph
from edgetf.formats.decoder.names import IDS, LOGITS, MASK, PARTS, past_names, present_names

CacheScales = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]


def write_fused(
    model: Any, facts: DecoderFacts, path: Path, opset: int, context: int, scales: CacheScales | None = None
) -> tuple[str, ...]:
    """Write the graph of a model for which `blocks.why_not` is None; its cache holds up to `context` tokens.

    With `scales` of every layer's keys and values, each (KV, D), the cache is int8. Gives the names of the inputs.
    """
    blocks, graph = read_blocks(model), Graph()
    _declare(graph, facts, np.float32 if scales is None else np.int8)
    lengths = _lengths(graph)
    x = graph.op("Gather", [graph.constant("model.embed_tokens.weight", blocks.embedding), IDS], "embedded")
    if blocks.embedding_scale != 1.0:
        scale = graph.constant("embedding_scale", np.float32(blocks.embedding_scale))
        x = graph.op("Mul", [x, scale], "embedded_scaled")
    part: str | None = None  # what is still to be added to the residual x
    for index, layer in enumerate(blocks.layers):
        tables = _rotation(graph, facts, index, context)
        normed, x = _join(graph, x, part, layer.input_norm)
        attended = _attention(graph, facts, index, layer, normed, [*lengths, *tables], scales)
        part = _maybe_norm(graph, attended, layer.post_attention_norm)
        normed, x = _join(graph, x, part, layer.feed_forward_norm)
        part = _maybe_norm(graph, _feed_forward(graph, blocks, layer, normed), layer.post_feed_forward_norm)
    normed, _ = _join(graph, x, part, blocks.final_norm)
    if blocks.head is None:
        graph.op(
            "FusedMatMul", [normed, "model.embed_tokens.weight"], LOGITS, MICROSOFT, name="lm_head", transA=0, transB=1
        )
    else:
        _product(graph, normed, blocks.head, LOGITS)
    graph.save(path, opset)
    return (IDS, MASK, *past_names(facts.num_hidden_layers))


def _declare(graph: Graph, facts: DecoderFacts, cached: type) -> None:
    """Inputs and outputs; `cached` is the type of the cache."""
    heads, width = facts.num_key_value_heads, facts.head_dim
    graph.inputs += [
        graph.value(IDS, np.int64, ["batch", "tokens"]),
        graph.value(MASK, np.int64, ["batch", "total_tokens"]),
    ]
    graph.outputs.append(graph.value(LOGITS, np.float32, ["batch", "tokens", facts.vocab_size]))
    for name in past_names(facts.num_hidden_layers):
        graph.inputs.append(graph.value(name, cached, ["batch", heads, "past_tokens", width]))
    for name in present_names(facts.num_hidden_layers):
        graph.outputs.append(graph.value(name, cached, ["batch", heads, "total_tokens", width]))


def _lengths(graph: Graph) -> tuple[str, str]:
    """Of each row the index of its last token, (B,) int32; and the length of the longest, int32."""
    one = graph.constant("one", np.array([1], np.int64))
    counted = graph.op("ReduceSum", [MASK, one], "counted_tokens", keepdims=0)
    last = graph.op("Cast", [graph.op("Sub", [counted, one], "last_token_long")], "last_token", to=6)
    shape = graph.op("Shape", [MASK], "mask_shape", start=1, end=2)
    scalar = graph.op("Squeeze", [shape], "total_long")
    return last, graph.op("Cast", [scalar], "total", to=6)


def _rotation(graph: Graph, facts: DecoderFacts, index: int, context: int) -> tuple[str, str]:
    """The tables (context, D/2) of cosines and sines of a layer; layers of the same base share them."""
    theta = facts.thetas[index]
    scaling = facts.rope_scaling[index] if facts.rope_scaling else 1.0
    stem = f"rotation_{theta:g}_{scaling:g}"
    if f"{stem}_frequencies" not in graph.constants:
        speeds = frequencies(facts, index, np.float32)  # as transformers works them out
        bounds = [
            graph.constant(name, np.float32(value))
            for name, value in (("first_position", 0), ("context", context), ("position_step", 1))
        ]
        positions = graph.op("Range", bounds, f"{stem}_positions")
        column = graph.op(
            "Unsqueeze", [positions, graph.constant("one", np.array([1], np.int64))], f"{stem}_positions_column"
        )
        angles = graph.op("Mul", [column, graph.constant(f"{stem}_frequencies", speeds[None])], f"{stem}_angles")
        graph.op("Cos", [angles], f"{stem}_cos")
        graph.op("Sin", [angles], f"{stem}_sin")
    return f"{stem}_cos", f"{stem}_sin"


def _join(graph: Graph, x: str, part: str | None, norm: Norm) -> tuple[str, str]:
    """The norm of the residual with the part added to it, and the sum itself."""
    weight, normed = graph.constant(f"{norm.path}.weight", norm.weight), norm.path
    if part is None:
        return _rms(graph, x, norm), x
    total = f"{norm.path}/residual"
    graph.op(
        "SkipSimplifiedLayerNormalization",
        [x, part, weight],
        [normed, "", "", total],
        MICROSOFT,
        epsilon=norm.epsilon,
    )
    return normed, total


def _rms(graph: Graph, x: str, norm: Norm) -> str:
    weight = graph.constant(f"{norm.path}.weight", norm.weight)
    return graph.op("SimplifiedLayerNormalization", [x, weight], norm.path, axis=-1, epsilon=norm.epsilon, stash_type=1)


def _maybe_norm(graph: Graph, x: str, norm: Norm | None) -> str:
    return x if norm is None else _rms(graph, x, norm)


def _product(graph: Graph, x: str, linear: Linear, output: str | None = None) -> str:
    """W x + b, by the weight as MatMul reads it, (in, out)."""
    given = output or linear.path
    weight = graph.constant(f"{linear.path}.weight", linear.weight.T)
    if linear.bias is None:
        return graph.op("MatMul", [x, weight], given, name=linear.path)
    product = graph.op("MatMul", [x, weight], f"{linear.path}/product", name=linear.path)
    return graph.op("Add", [product, graph.constant(f"{linear.path}.bias", linear.bias)], given)


def _attention(
    graph: Graph, facts: DecoderFacts, index: int, layer: Block, x: str, shared: list[str], scales: CacheScales | None
) -> str:
    """Queries, keys and values in one product; then everything up to the output layer in one operator.

    `shared` are the lengths and the tables of rotation.
    """
    window = facts.windows[index] if facts.windows else None
    settings: dict[str, Any] = {} if window is None else {"local_window_size": window}
    past, present = past_names(index + 1)[-2:], present_names(index + 1)[-2:]
    inputs = [*_queries_keys_values(graph, facts, layer, x), *past, *shared]
    if scales is not None:
        stored = [
            graph.constant(f"{layer.path}.self_attn.{part}_scale", values)
            for part, values in zip(PARTS, scales[index], strict=True)
        ]
        inputs += ["", "", "", *stored]  # there are no positions, biases or sinks
        settings |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
    attended = graph.op(
        "GroupQueryAttention",
        inputs,
        [f"{layer.path}.self_attn", *present],
        MICROSOFT,
        num_heads=facts.num_attention_heads,
        kv_num_heads=facts.num_key_value_heads,
        scale=layer.scale,
        do_rotary=1,
        rotary_interleaved=0,
        **settings,
    )
    return _product(graph, attended, layer.output)


def _queries_keys_values(graph: Graph, facts: DecoderFacts, layer: Block, x: str) -> list[str]:
    """One product for the three. Norms of heads, which the operator has not on a CPU, come between."""
    joined = _product(graph, x, layer.qkv)
    if layer.head_norms is None:
        return [joined, "", ""]
    path, width = f"{layer.path}.self_attn", facts.head_dim
    sizes = [facts.num_attention_heads * width, *[facts.num_key_value_heads * width] * 2]
    names = [f"{path}.{part}" for part in ("queries", "keys", "values")]
    graph.op("Split", [joined, graph.constant("qkv_widths", np.array(sizes, np.int64))], names, axis=-1)
    by_head = graph.constant("by_head", np.array([0, 0, -1, width], np.int64))
    flat = graph.constant("by_token", np.array([0, 0, -1], np.int64))
    normed = [
        graph.op(
            "Reshape",
            [_rms(graph, graph.op("Reshape", [name, by_head], f"{name}/heads"), norm), flat],
            f"{name}/normed",
        )
        for name, norm in zip(names, layer.head_norms, strict=False)
    ]
    return [*normed, names[2]]


def _feed_forward(graph: Graph, blocks: Blocks, layer: Block, x: str) -> str:
    gate, up = _product(graph, x, layer.gate), _product(graph, x, layer.up)
    act = f"{layer.path}.mlp.act"
    if blocks.activation == "silu":
        graph.op("QuickGelu", [gate], act, MICROSOFT, alpha=1.0)
    else:
        graph.op("Gelu", [gate], act, approximate="tanh")
    return _product(graph, graph.op("Mul", [act, up], f"{layer.path}.mlp.gated"), layer.down)
