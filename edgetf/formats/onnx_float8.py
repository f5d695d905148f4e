"""ONNX in float8 E4M3: QuantizeLinear and DequantizeLinear around weights and what meets them (QDQ).

As TensorRT takes it: weights are float8 constants, by default with one scale each, activations have one scale a tensor,
zero points are zeros, biases and tables stay float. Scales are the largest value over 448, the largest number of the
format. On a CPU the products are computed in float from rounded numbers: a simulation, to know the accuracy, never
faster.

Sources: ONNX operators QuantizeLinear and DequantizeLinear from opset 19 on; NVIDIA TensorRT, "Working with Quantized
Types"; Micikevicius et al. 2022, FP8 Formats for Deep Learning, arXiv 2209.05433.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgetf.algorithms.float8 import LARGEST, encode, scales
from edgetf.algorithms.observers import Range
from edgetf.core.errors import ParityError, needs
from edgetf.core.schemes import Granularity

OPSET = 19  # the first that knows the format
_FLOOR = "relu_floor"


def quantize_float8(model: Any, chosen: list[Any], ranges: Mapping[str, Range], granularity: Granularity) -> Any:
    """The model with the weights of the `chosen` products, and what they multiply, rounded to float8; in place.

    Tables stay in float: NVIDIA's own tool quantizes products only, and a GPU gains nothing from a smaller table.

    Raises:
        ParityError: its opset does not know the format.
    """
    with needs("compress"):
        import onnx
    opset = next(item.version for item in model.opset_import if not item.domain)
    if opset < OPSET:
        raise ParityError(f"export.opset: got {opset}, allowed for fp8_e4m3: {OPSET} or more")
    constants = {item.name: item for item in model.graph.initializer}
    before: dict[str, list[Any]] = {}  # by operator, what must stand ahead of it
    rounded: dict[str, str] = {}  # by value, its name after rounding
    for node in chosen:
        if node.op_type == "Gather":
            continue
        ahead = before.setdefault(node.name, [])
        for place, name in enumerate(node.input[:2]):
            if name not in rounded and name in constants:
                ahead += _weight(model, constants[name], None if granularity == "per_tensor" else _channel_axis(node))
            elif name not in rounded:
                ahead += _activation(model, name, ranges[name])
            rounded[name] = node.input[place] = f"{name}_rounded"
    _relu_as_max(model, rounded)
    nodes = [each for node in model.graph.node for each in (*before.get(node.name, ()), node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(model.opset_import))
    return model


def _relu_as_max(model: Any, rounded: Mapping[str, str]) -> None:
    """Write every Relu whose output is rounded as the larger of its input and zero, in place: the same numbers.

    onnxruntime drops a Relu ahead of a QuantizeLinear whose zero point is 0, as if nothing lay below that in float8
    (seen with 1.32): negative numbers would go on.
    """
    from onnx import numpy_helper

    found = [node for node in model.graph.node if node.op_type == "Relu" and node.output[0] in rounded]
    for node in found:
        node.op_type = "Max"
        node.input.append(_FLOOR)
    if found:
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), _FLOOR))


def _channel_axis(node: Any) -> int:
    """The axis of a weight along which the channels lie that a product gives."""
    return 0 if any(item.name == "transB" and item.i for item in node.attribute) else 1


def _weight(model: Any, constant: Any, axis: int | None) -> list[Any]:
    """Put a weight in as float8, in place of the float one; gives the operator that makes it float again."""
    from onnx import TensorProto, helper, numpy_helper

    values, name = numpy_helper.to_array(constant), constant.name
    scale = scales(values, axis)
    spread = scale if axis is None else np.expand_dims(scale, 1 - axis)
    codes = encode(values / spread).tobytes()
    stored = helper.make_tensor(f"{name}_float8", TensorProto.FLOAT8E4M3FN, values.shape, codes, raw=True)
    model.graph.initializer.remove(constant)
    model.graph.initializer.extend([stored, numpy_helper.from_array(scale, f"{name}_scale")])
    settings = {} if axis is None else {"axis": axis}
    inputs = [stored.name, f"{name}_scale"]
    return [helper.make_node("DequantizeLinear", inputs, [f"{name}_rounded"], f"{name}_dq", **settings)]


def _activation(model: Any, name: str, covered: Range) -> list[Any]:
    """The operators that round an activation: saturating at the ends of its range."""
    from onnx import TensorProto, helper, numpy_helper

    scale = np.float32(max(-covered[0], covered[1]) / LARGEST) or np.float32(1)
    zero = helper.make_tensor(f"{name}_zero", TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
    model.graph.initializer.extend([zero, numpy_helper.from_array(np.asarray(scale), f"{name}_scale")])
    settings = [f"{name}_scale", f"{name}_zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *settings], [f"{name}_float8"], f"{name}_q"),
        helper.make_node("DequantizeLinear", [f"{name}_float8", *settings], [f"{name}_rounded"], f"{name}_dq"),
    ]
