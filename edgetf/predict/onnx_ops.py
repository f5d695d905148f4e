"""The operators of an ONNX file at batch 1 and a given length.

Lengths are free in the file, so its inputs are first fixed, and with them what asks for their shape. ONNX's own
inference then gives the shape of everything else; operators of onnxruntime that ONNX does not know stand in it as ones
whose output has the same shape. Weights take part with their shapes alone.

Source: `onnx.shape_inference`; onnxruntime's ContribOperators.md.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError, needs
from edgetf.predict.ops import PRODUCTS, Op, Shape, group_of, known_shape, product_flops

_SMALL = 4096  # values of a constant that others' shapes may rest on
_UNARY = frozenset(  # onnxruntime's own whose output is shaped as their first input is
    ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "FastGelu", "BiasGelu", "QuickGelu", "Gelu")
)
_NAMESAKES = {"FusedMatMul": "MatMul", "QuantizeLinear": "QuantizeLinear", "DequantizeLinear": "DequantizeLinear"}
_RIGHT = {"QLinearMatMul": 3, "QGemm": 3}  # the place of the second factor, where it is not input 1
_FREE = frozenset(("Constant",))  # what is no work at all
Known = dict[str, tuple[int, Shape | None]]  # element type as ONNX numbers it, and shape, by name


def open_onnx(path: Path) -> Any:
    """The model of a file, by types and shapes alone: external data stays where it is.

    Raises:
        ArtifactError: it is not an ONNX file, cut, or empty.
        DeviceError: onnx is not installed.
    """
    with needs("compress"):
        import onnx
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors share no public base
        raise ArtifactError(f"{path}: not an ONNX file, or cut ({' '.join(str(error).split())[:120]})") from None
    if not model.graph.node:  # an empty file is read as an empty model
        raise ArtifactError(f"{path}: not an ONNX file, or cut; it holds no operator")
    return model


def onnx_ops(path: Path, seq_len: int) -> list[Op]:
    """Every operator of a file, in its order.

    Raises:
        ArtifactError: it is not an ONNX file, or a shape in it depends on more than batch and length.
        DeviceError: onnx is not installed.
    """
    model = open_onnx(path)
    nodes = type(model.graph)(node=model.graph.node).node  # as they stand in the file
    constants: Known = {item.name: (item.data_type, tuple(item.dims)) for item in model.graph.initializer}
    _fix(model, seq_len)
    known = {**_inferred(path, model), **constants}
    reader = _Reader(path, known, constants)
    return [reader.op(node) for node in nodes if node.op_type not in _FREE]


class _Reader:
    """Turns nodes into operators; a weight that is dequantized when it is used stays a weight."""

    def __init__(self, path: Path, known: Known, constants: Known) -> None:
        self.path, self.known, self.weights = path, known, dict(constants)

    def op(self, node: Any) -> Op:
        """The work of one node."""
        kind, names = node.op_type, [name for name in node.input if name]
        stored = [name for name in names if name in self.weights]
        if kind in ("DequantizeLinear", "Cast", "Transpose") and names and names[0] in self.weights:
            self.weights[node.output[0]] = self.weights[names[0]]  # done once, when the file is loaded, or with its use
            return Op(kind, "view", 0.0, 0.0, 0.0, 0, _type_name(self.weights[names[0]][0]))
        read = sum(self._bytes(name) for name in names if name not in self.weights)
        gives, out = self._shape(node.output[0]), self._bytes(node.output[0])
        dtype = _type_name(self.known[node.output[0]][0])
        if kind not in PRODUCTS:
            return Op(kind, group_of(kind), 0.0, 0.0, read + out, prod(gives), dtype)
        right = node.input[_RIGHT.get(kind, 1)]
        weights = sum(self._stored_bytes(name) for name in stored)
        flops = self._flops(node, gives)
        if right in self.weights:
            return Op(kind, "product", flops, weights, read + out, prod(gives), _weight_type(node, self.weights[right]))
        return Op(kind, "attention", flops, weights, read + out, prod(gives), dtype)

    def _flops(self, node: Any, gives: Shape) -> float:
        left = self._shape(node.input[0])
        about = {item.name: item.i for item in node.attribute}
        if node.op_type == "Gemm" and about.get("transA"):
            left = left[::-1]
        if node.op_type != "Attention":
            return product_flops(left, gives)
        batch, tokens, width = gives  # three projections, and the two products of attention itself
        return 2.0 * batch * tokens * width * (3 * left[-1] + 2 * tokens)

    def _shape(self, name: str) -> Shape:
        shape = self.known.get(name, (0, None))[1]
        return known_shape(str(self.path), name, shape)

    def _bytes(self, name: str) -> float:
        return prod(self._shape(name)) * type_bytes(self.known[name][0])

    def _stored_bytes(self, name: str) -> float:
        kind, shape = self.weights[name]
        return prod(shape or ()) * type_bytes(kind)


def _type_name(kind: int) -> str:
    """Such as `float32`, `int8`."""
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(kind)).lower().replace("float16", "fp16").replace("float8", "fp8")


def type_bytes(kind: int) -> float:
    """Of one element, whose type is numbered as ONNX numbers it."""
    from onnx import TensorProto, helper

    if kind in (TensorProto.INT4, TensorProto.UINT4):
        return 0.5
    return float(helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind != TensorProto.STRING else 0.0


def _weight_type(node: Any, weight: tuple[int, Shape | None]) -> str:
    """What a product multiplies by; blocks of bits are stored as bytes."""
    bits = next((item.i for item in node.attribute if item.name == "bits"), None)
    return _type_name(weight[0]) if bits is None else f"int{bits}"


def _fix(model: Any, seq_len: int) -> None:
    """Batch 1 and the length in place of names, also where an operator asks for them; what was inferred before goes."""
    import numpy as np
    from onnx import numpy_helper

    sizes = {}
    for value in model.graph.input:
        for place, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                size.dim_value = seq_len if place else 1
        sizes[value.name] = [size.dim_value for size in value.type.tensor_type.shape.dim]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    for node in [node for node in model.graph.node if node.op_type == "Shape" and node.input[0] in sizes]:
        about = {item.name: item.i for item in node.attribute}
        asked = sizes[node.input[0]][about.get("start", 0) : about.get("end")]
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(asked, np.int64), node.output[0]))
        model.graph.node.remove(node)


def _inferred(path: Path, model: Any) -> Known:
    """Types and shapes of what the graph computes, and of its inputs."""
    import onnx

    small = [item for item in model.graph.initializer if prod(item.dims) <= _SMALL and not item.external_data]
    names = {item.name for item in small}
    large = [item for item in model.graph.initializer if item.name not in names]
    shapes: Known = {item.name: (item.data_type, tuple(item.dims)) for item in model.graph.initializer}
    model.graph.input.extend(onnx.helper.make_tensor_value_info(i.name, i.data_type, i.dims) for i in large)
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            _stand_in(model, node, shapes)
    model.ir_version = max(model.ir_version, 4)  # from which on not every initializer must be an input
    kept = onnx.GraphProto(initializer=small).initializer
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # its errors share no public base either
        raise ArtifactError(f"{path}: its shapes cannot be inferred ({' '.join(str(error).split())[:160]})") from None
    known: Known = {item.name: (item.data_type, tuple(item.dims)) for item in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
        whole = kind.HasField("shape") and None not in sizes
        known[value.name] = (kind.elem_type, tuple(size or 0 for size in sizes) if whole else None)
    return known


def _stand_in(model: Any, node: Any, constants: Known) -> None:
    """Make one of onnxruntime's operators one of ONNX's own whose output has the same shape, in place."""
    from onnx import TensorProto

    about = {item.name: item.i for item in node.attribute}
    kind, shapes = node.op_type, {name: shape or () for name, (_, shape) in constants.items()}
    match kind:
        case "MatMulNBits":
            _become(model, node, "MatMul", [node.input[0], ""], (about["K"], about["N"]))
        case "DynamicQuantizeMatMul" | "MatMulIntegerToFloat":
            _become(model, node, "MatMul", [node.input[0], ""], shapes[node.input[1]])
        case "Attention":
            inputs, three = shapes[node.input[1]]
            _become(model, node, "MatMul", [node.input[0], ""], (inputs, three // 3))
        case "GatherBlockQuantized":
            table = shapes[node.input[0]]
            in_one = 8 // about.get("bits", 4) if constants[node.input[0]][0] == TensorProto.UINT8 else 1
            _become(model, node, "Gather", ["", node.input[1]], (*table[:-1], table[-1] * in_one))
        case _ if kind in _UNARY:
            _become(model, node, "Identity", [node.input[0]], ())
        case _ if kind in _NAMESAKES:
            node.domain, node.op_type = "", _NAMESAKES[kind]
            del node.attribute[:]


def _become(model: Any, node: Any, kind: str, inputs: list[str], table: Shape) -> None:
    """Another operator of the same output; "" among its inputs stands for a table of float of that shape."""
    import onnx

    name = f"{node.output[0]}/table"
    if "" in inputs:
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, table))
    output = node.output[0]
    node.Clear()
    node.CopyFrom(onnx.helper.make_node(kind, [each or name for each in inputs], [output]))
