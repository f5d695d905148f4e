"""The weights that a quantized ONNX file stores, made float again, beside those of the file that it was made from.

A broken scale changes what weights mean and nothing else. Answers of a robust model may hide it, the weights do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import needs
from edgetf.core.metrics import Floats


def weight_errors(plain: Path, quantized: Path) -> dict[str, float]:
    """For every weight that is stored in other numbers: the norm of what changed over the norm of the weight."""
    with needs("compress"):
        import onnx
        from onnx import numpy_helper
    before = {item.name: item for item in onnx.load(str(plain)).graph.initializer}
    found = {}
    for name, stored in _stored(onnx.load(str(quantized)).graph).items():
        original = name.removesuffix("_Transposed")
        weight = np.asarray(numpy_helper.to_array(before[original]), dtype=np.float64)
        if stored.shape[0] != weight.shape[0] or original != name:
            weight = weight.T
        read = stored[:, : weight.shape[1]] if stored.ndim == 2 else stored  # rows may be filled up to whole blocks
        change, size = float(np.linalg.norm(read - weight)), float(np.linalg.norm(weight))
        found[original] = change / max(size, 1e-12)
    return found


def _stored(graph: Any) -> dict[str, Floats]:
    """Every quantized weight in float, (K, N) or as its table stands, by the name it had before."""
    from onnx import TensorProto, helper, numpy_helper

    items = {item.name: item for item in graph.initializer}
    readers = {name: node for node in graph.node for name in node.input if name in items}

    def numbers(name: str) -> Floats:
        return np.asarray(numpy_helper.to_array(items[name]).astype(np.float64))

    found: dict[str, Floats] = {}
    for name in (name for name, item in items.items() if len(item.dims) > 1):
        stem, _, kind = name.rpartition("_")
        settings = (
            {item.name: helper.get_attribute_value(item) for item in readers[name].attribute} if name in readers else {}
        )
        if kind in ("quantized", "float8") and f"{stem}_scale" in items:
            zero = numbers(f"{stem}_zero_point") if f"{stem}_zero_point" in items else np.zeros(())
            reader = readers[name].op_type
            axis = settings.get("axis", 1) if reader == "DequantizeLinear" else 0 if reader == "Gather" else 1
            found[stem] = _along(numbers(f"{stem}_scale"), axis) * (numbers(name) - _along(zero, axis))
        elif kind in ("Q4", "Q8") and f"{stem}_scales" in items:
            scales, zeros = numbers(f"{stem}_scales"), items.get(f"{stem}_zero_points")
            packed_zeros = numpy_helper.to_array(zeros) if zeros is not None else None
            if readers[name].op_type == "MatMulNBits":
                packed, width = numpy_helper.to_array(items[name]), settings["K"]
                found[stem] = _blocks(packed, scales, packed_zeros, settings["bits"], width).T
            elif items[name].data_type == TensorProto.UINT8:  # two codes in a byte, or one
                packed, width = numpy_helper.to_array(items[name]), settings["block_size"] * scales.shape[1]
                found[stem] = _blocks(packed.reshape(*scales.shape, -1), scales, packed_zeros, settings["bits"], width)
            else:
                size = settings["block_size"]
                spread = np.repeat(scales, size, axis=1)[:, : items[name].dims[1]]
                found[stem] = numbers(name) * spread
    return found


def _along(values: Floats, axis: int) -> Floats:
    """Numbers, one a channel, as they meet a matrix whose channels lie along an axis; a single number as it is."""
    return values if values.ndim == 0 else np.expand_dims(values, 1 - axis)


def _blocks(packed: Any, scales: Floats, zeros: Any, bits: int, width: int) -> Floats:
    """The weights (N, K) of MatMulNBits: of bytes (N, blocks, size), each one number or two, low bits first.

    `zeros` are packed like them along the blocks; None: the middle of the codes.
    """
    rows, blocks = packed.shape[:2]
    middle = np.full((rows, blocks), 1 << (bits - 1)) if zeros is None else _numbers(zeros.reshape(rows, -1), bits)
    values = (_numbers(packed, bits).astype(np.float64) - middle[:, :blocks, None]) * scales.reshape(rows, blocks, 1)
    return np.asarray(values.reshape(rows, -1)[:, :width])


def _numbers(packed: Any, bits: int) -> Any:
    """Codes of a byte each, or of its halves, the lower first."""
    return packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
