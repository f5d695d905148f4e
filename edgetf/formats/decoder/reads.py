"""Which operators of a decoder's graph read a weight, and how it lies: what quantization changes.

The embedding may be read twice: by its rows, and, transposed, as the output layer. Both reads then name one constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edgetf.core.errors import needs
from edgetf.formats.decoder.names import IDS

_SAME = ("Reshape", "Cast", "Identity")  # operators that leave token ids what they are


@dataclass(frozen=True)
class Read:
    """One operator and the weight of two dimensions that it reads.

    A `table` gives rows (in tokens, out width); a `product` multiplies by it. `rows_out`: the weight lies (out, in), as
    MatMulNBits wants it and as a table that is also the output layer does; else (in, out). `turned` is an operator that
    transposes the weight for this read alone.
    """

    node: Any
    weight: str
    kind: Literal["table", "product"]
    rows_out: bool
    bias: str | None = None
    turned: Any | None = None

    @property
    def of_vocabulary(self) -> bool:
        """Whether it is the embedding or the output layer."""
        return self.kind == "table" or "lm_head" in self.node.name


def weight_reads(model: Any) -> list[Read]:
    """Every read of a weight by a product or by token ids, in the order of the graph."""
    with needs("compress"):
        from onnx import TensorProto
    matrices = {
        item.name for item in model.graph.initializer if len(item.dims) == 2 and item.data_type == TensorProto.FLOAT
    }
    turned = {
        node.output[0]: node for node in model.graph.node if node.op_type == "Transpose" and node.input[0] in matrices
    }
    ids = {IDS}
    for node in model.graph.node:
        if node.op_type in _SAME and node.input[0] in ids:
            ids.add(node.output[0])
    return list(_reads(model.graph.node, matrices, turned, ids))


def _reads(nodes: Any, matrices: set[str], turned: dict[str, Any], ids: set[str]) -> Iterator[Read]:
    from onnx import helper

    for node in nodes:
        settings = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        match node.op_type:
            case "Gather" if node.input[0] in matrices and node.input[1] in ids:
                yield Read(node, node.input[0], "table", rows_out=True)
            case "MatMul" if node.input[1] in matrices:
                yield Read(node, node.input[1], "product", rows_out=False)
            case "MatMul" if node.input[1] in turned:
                turn = turned[node.input[1]]
                yield Read(node, turn.input[0], "product", rows_out=True, turned=turn)
            case "FusedMatMul" if node.input[1] in matrices:
                yield Read(node, node.input[1], "product", rows_out=bool(settings.get("transB")))
            case "Gemm" if node.input[1] in matrices:
                bias = node.input[2] if len(node.input) > 2 else None
                yield Read(node, node.input[1], "product", rows_out=bool(settings.get("transB")), bias=bias)
