"""The weights that a quantized TFLite file stores, made float again, beside those of the file that it was made from.

The counterpart of `onnx_weights`, over all signatures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.metrics import Floats
from edgetf.formats.tflite_graph import constant, read_graph, tensor_name, type_name, weight_reads

_NUMPY = {"int8": np.int8, "float16": np.float16, "float32": np.float32}


def weight_errors(plain: Path, quantized: Path) -> dict[str, float]:
    """For every weight that is stored in other numbers: the norm of what changed over the norm of the weight."""
    before, after = (_weights(read_graph(path)) for path in (plain, quantized))
    found = {}
    for name, (kind, stored) in after.items():
        weight = before[name][1]
        if kind != "float32":
            change, size = float(np.linalg.norm(stored - weight)), float(np.linalg.norm(weight))
            found[name] = change / max(size, 1e-12)
    return found


def _weights(model: Any) -> dict[str, tuple[str, Floats]]:
    """Stored type and float values of every weight by its name."""
    return {
        tensor_name(weight): (type_name(weight), _values(model, subgraph, weight))
        for subgraph in model.subgraphs
        for _, weight in weight_reads(model, subgraph)
    }


def _values(model: Any, subgraph: Any, weight: Any) -> Floats:
    """A weight in float, in its own shape."""
    data = constant(model, weight)
    if data is None:
        raise ValueError(f"{tensor_name(weight)} is no constant")
    kind, shape = type_name(weight), tuple(weight.shape)
    codes = unpacked(data) if kind == "int4" else data.view(_NUMPY[kind])
    values: Floats = codes[: int(np.prod(shape))].reshape(shape).astype(np.float64)
    return values * _spread(model, subgraph, weight) if kind in ("int8", "int4") else values


def unpacked(data: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Two numbers of 4 bits a byte, the low bits first.

    >>> unpacked(np.array([0xF1, 0x78], np.uint8)).tolist()
    [1, -1, -8, 7]
    """
    pairs = np.stack([data & 15, data >> 4], axis=-1).reshape(-1).astype(np.int8)
    return np.where(pairs > 7, pairs - 16, pairs).astype(np.int8)


def _spread(model: Any, subgraph: Any, weight: Any) -> Floats:
    """The scale of every number of a weight, in a shape that multiplies it; all zero points are 0."""
    settings = weight.quantization
    if hasattr(settings.details, "blockSize"):
        table = subgraph.tensors[settings.details.scales]
        data = constant(model, table)
        if data is None:
            raise ValueError(f"{tensor_name(table)} is no constant")
        scales = data.view(_NUMPY[type_name(table)]).astype(np.float64).reshape(*weight.shape[:-1], -1)
        return np.asarray(np.repeat(scales, settings.details.blockSize, axis=-1))
    scales = np.asarray(settings.scale, dtype=np.float64)
    shape = [1] * len(weight.shape)
    if len(scales) > 1:
        shape[settings.quantizedDimension] = len(scales)
    return scales.reshape(shape)
