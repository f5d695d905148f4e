"""The stored tensors and operators of an ONNX decoder, by types and shapes alone: external data stays where it is."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError
from edgetf.predict.decode_bytes import Stored, Use
from edgetf.predict.onnx_ops import open_onnx, type_bytes


def read_onnx(path: Path) -> tuple[dict[str, Stored], list[Use]]:
    """The initializers by name, and the nodes in order.

    Raises:
        ArtifactError: it is not an ONNX file, or has no cache.
        DeviceError: onnx is not installed.
    """
    model = open_onnx(path)
    if not any(value.name.startswith("past_key_values.") for value in model.graph.input):
        raise ArtifactError(f"{path}: it has no past_key_values, so that it does not write token by token")
    stored = {item.name: Stored(prod(item.dims) * type_bytes(item.data_type), _rows(item)) for item in _all(model)}
    uses = [Use(node.op_type, tuple(filter(None, node.input)), tuple(node.output)) for node in model.graph.node]
    return stored, uses


def _all(model: Any) -> list[Any]:
    """Initializers, and the tensors that stand in nodes of the kind Constant, under the names they give."""
    found = list(model.graph.initializer)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            found.append(tensor)
    return found


def _rows(item: Any) -> int:
    return int(item.dims[0]) if item.dims else 1
