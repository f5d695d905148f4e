"""A look into a TFLite file: its operators, how much of its weights is quantized, and where its bytes are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgetf.formats.parts import PARTS, part_of
from edgetf.formats.quantization import GraphSummary
from edgetf.formats.tflite_graph import constant, module_of, op_name, read_graph, tensor_name, type_name, weight_reads

_SMALL = ("int8", "int4", "int2")


def summarize_tflite(path: Path) -> GraphSummary:
    """Count the operators of the first signature, and how many weighted ones read constants of 8 bits or less."""
    model = read_graph(path)
    signature = model.signatureDefs[0] if model.signatureDefs else None  # another tool's file may have none
    first = model.subgraphs[signature.subgraphIndex if signature else 0]
    weights = [weight for _, weight in weight_reads(model, first)]
    return GraphSummary(
        ops=dict(Counter(op_name(model, op) for op in first.operators).most_common()),
        quantized=sum(type_name(weight) in _SMALL for weight in weights),
        quantizable=len(weights),
        part_bytes=_part_bytes(model),
        inputs=_types(first, signature.inputs if signature else ()),
        outputs=_types(first, signature.outputs if signature else ()),
        weighted=tuple(module_of(weight) for weight in weights),
    )


def _part_bytes(model: Any) -> dict[str, int]:
    """Bytes of the constants of all signatures, shared ones once, and of the scales, which each signature repeats."""
    sizes: dict[str, int] = dict.fromkeys(PARTS, 0)
    seen = set()
    for tensor in (each for subgraph in model.subgraphs for each in subgraph.tensors):
        data, part = constant(model, tensor), part_of(tensor_name(tensor))
        if data is not None and tensor.buffer not in seen:
            seen.add(tensor.buffer)
            sizes[part] += len(data)
        if data is not None and tensor.quantization is not None and tensor.quantization.scale is not None:
            sizes[part] += tensor.quantization.scale.nbytes + tensor.quantization.zeroPoint.nbytes
    return sizes


def _types(subgraph: Any, named: Any) -> dict[str, str]:
    """Element types by name of inputs or outputs of a signature."""
    return {each.name.decode(): type_name(subgraph.tensors[each.tensorIndex]) for each in named}
