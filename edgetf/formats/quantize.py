"""One file in one scheme, whatever its format, and the look into it."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import assert_never

from edgetf.core.schemes import Format
from edgetf.formats.quantization import Feeds, GraphSummary, Quantization


def quantize_file(
    model_format: Format, source: Path, path: Path, how: Quantization, feeds: Feeds | None = None
) -> None:
    """Write the file `source` in a scheme to `path`; `feeds` are the calibration rows, for the schemes that need them.

    Raises:
        ParityError: the library cannot write it.
    """
    match model_format:
        case "onnx" if how.writer == "nncf":
            from edgetf.formats.onnx_nncf import quantize_nncf

            quantize_nncf(source, path, how, feeds)
        case "onnx":
            from edgetf.formats.onnx_quantize import quantize_onnx

            quantize_onnx(source, path, how, feeds)
        case "tflite":
            from edgetf.formats.tflite_quantize import quantize_tflite

            quantize_tflite(source, path, how, feeds)
        case _:
            assert_never(model_format)


def summarize_file(model_format: Format, path: Path) -> GraphSummary:
    """Operators, quantized share, bytes by part, inputs and outputs of a file."""
    match model_format:
        case "onnx":
            from edgetf.formats.onnx_summary import summarize_onnx

            return summarize_onnx(path)
        case "tflite":
            from edgetf.formats.tflite_summary import summarize_tflite

            return summarize_tflite(path)
        case _:
            assert_never(model_format)


def stored_errors(model_format: Format, plain: Path, quantized: Path) -> dict[str, float]:
    """For every weight that a quantized file stores in other numbers, its change over its size."""
    match model_format:
        case "onnx":
            from edgetf.formats.onnx_weights import weight_errors as onnx_errors

            return onnx_errors(plain, quantized)
        case "tflite":
            from edgetf.formats.tflite_weights import weight_errors as tflite_errors

            return tflite_errors(plain, quantized)
        case _:
            assert_never(model_format)
