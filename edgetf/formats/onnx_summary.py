"""A look into an ONNX file: its operators, how much of its weights is quantized, and where its bytes are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgetf.core.errors import needs
from edgetf.formats.onnx import READ_WEIGHTS
from edgetf.formats.parts import PARTS, part_of
from edgetf.formats.quantization import GraphSummary

_QUANTIZED = {"MatMulInteger", "ConvInteger", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul"}
_BLOCKS = {"MatMulNBits", "GatherBlockQuantized"}  # their weights have more dimensions than two


def summarize_onnx(path: Path) -> GraphSummary:
    """Count the operators of a file, and how much of its weights is stored in 8 bits or less.

    `quantizable` are the MatMul, Gemm and Gather operators that read a float or quantized weight of two dimensions,
    also through a DequantizeLinear.
    """
    with needs("compress"):
        import onnx
    model = onnx.load(str(path), load_external_data=False)
    graph, kinds = model.graph, onnx.TensorProto
    small = {kinds.INT8, kinds.UINT8, kinds.INT4, kinds.UINT4, kinds.FLOAT8E4M3FN}
    holds = {kinds.FLOAT, kinds.FLOAT16, *small}
    matrices = [item for item in graph.initializer if len(item.dims) == 2]
    weights = {item.name: item.data_type for item in matrices if item.data_type in holds}
    for node in graph.node:  # a weight that is made float when it is used counts as what is stored
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    quantized, weighted = 0, []
    for node in graph.node:
        read = [weights[name] for name in node.input if name in weights]
        if node.op_type in _BLOCKS or (read and node.op_type in (*READ_WEIGHTS, *_QUANTIZED)):
            weighted.append(node.name)
            quantized += node.op_type in _BLOCKS or read[0] in small
    return GraphSummary(
        ops=dict(Counter(node.op_type for node in graph.node).most_common()),
        quantized=quantized,
        quantizable=len(weighted),
        part_bytes=_part_bytes(graph),
        inputs={value.name: _type(value) for value in graph.input},
        outputs={value.name: _type(value) for value in graph.output},
        weighted=tuple(weighted),
    )


def _part_bytes(graph: Any) -> dict[str, int]:
    sizes: dict[str, int] = dict.fromkeys(PARTS, 0)
    for item in graph.initializer:
        beside = next((int(entry.value) for entry in item.external_data if entry.key == "length"), 0)
        sizes[part_of(item.name)] += item.ByteSize() + beside
    return sizes


def _type(value: Any) -> str:
    """Its element type as numpy calls it."""
    import onnx

    return str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
