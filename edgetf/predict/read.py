"""A model file as a list of operators, and the scheme that its products say it is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetf.core.errors import ArtifactError
from edgetf.core.quiet import quiet
from edgetf.core.schemes import Format
from edgetf.predict.ops import Op

FORMATS: dict[str, Format] = {".onnx": "onnx", ".tflite": "tflite"}
MIXED = 0.9  # share of the work that must be in one scheme
_FLOAT = {"float": "fp32", "fp16": "fp16", "fp8e4m3fn": "fp8_e4m3"}
_ROUNDED = "MatMulInteger DynamicQuantizeMatMul MatMulIntegerToFloat".split()


@dataclass(frozen=True)
class Graph:
    """What a file does for one input of `seq_len` tokens, batch 1."""

    model_format: Format
    seq_len: int
    ops: tuple[Op, ...]

    @property
    def scheme(self) -> str:
        """As `scheme_of` says."""
        return scheme_of(self.ops)


def read_graph(path: Path, seq_len: int) -> Graph:
    """The operators of a file; TFLite files have fixed lengths, of which the one is taken that a runtime takes.

    Raises:
        ArtifactError: it is no model file, cut, or of shapes that nobody can know.
        DeviceError: the package that reads it is not installed.
    """
    model_format = FORMATS.get(path.suffix)
    if model_format is None:
        raise ArtifactError(f"{path}: got {path.suffix or 'no suffix'}, allowed: {', '.join(FORMATS)}, or a folder")
    if not path.is_file():
        raise ArtifactError(f"{path}: not found")
    with quiet():
        if model_format == "tflite":
            from edgetf.predict.tflite_ops import tflite_ops

            length, ops = tflite_ops(path, seq_len)
        else:
            from edgetf.predict.onnx_ops import onnx_ops

            length, ops = seq_len, onnx_ops(path, seq_len)
    return Graph(model_format, length, tuple(ops))


def scheme_of(ops: Sequence[Op]) -> str:
    """The scheme of the products that do most of the work, or `mixed` where none does nine tenths of it.

    INT8 weights that meet activations which were rounded by a fixed scale are `w8a8`, or `w8a16` in 16 bits; by one of
    the input's own, `w8a8_dynamic`; activations in float, `w8`.
    """
    fixed = {op.dtype for op in ops if op.kind in ("QuantizeLinear", "QUANTIZE")}
    stored = any(op.kind == "DEQUANTIZE" and op.group == "view" for op in ops)
    work: Counter[str] = Counter()
    for op in ops:
        if op.group == "product":
            work[_scheme_of_product(op, fixed, stored)] += int(op.flops)
    if not work:
        return "fp32"
    scheme, most = work.most_common(1)[0]
    return scheme if most >= MIXED * sum(work.values()) else "mixed"


def _scheme_of_product(op: Op, fixed: set[str], stored: bool) -> str:
    if op.dtype in _FLOAT:
        return _FLOAT[op.dtype]
    if "4" in op.dtype:
        return "w4"
    if op.kind in _ROUNDED:
        return "w8a8_dynamic"
    if op.kind == "MatMulNBits" or stored:
        return "w8"
    if not fixed:
        return "w8a8_dynamic" if op.kind == "FULLY_CONNECTED" else "w8"
    return "w8a16" if any("16" in dtype for dtype in fixed) else "w8a8"
