"""One model written in one format, with or without the exact rewrites: what ships, and what is timed in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.schemes import Format
from edgetf.formats import onnx, tflite
from edgetf.models.first_token import first_token_only
from edgetf.models.heads import CLASSIFIER, Head


def write_graph(
    model: Any,
    model_format: Format,
    path: Path,
    opset: int,
    lengths: tuple[int, ...],
    rewrite: bool,
    head: Head = CLASSIFIER,
) -> tuple[str, ...]:
    """Write a model; returns the input names. The `opset` is ONNX's, the fixed `lengths` in tokens TFLite's.

    Raises:
        ParityError: torch or the converter cannot write it.
    """
    graph = first_token_only(model) if rewrite and head.reads_first_token else model
    if model_format == "tflite":
        return tflite.export_tflite(graph, path, lengths)
    names = onnx.export_onnx(graph, path, opset)
    if head.output != onnx.OUTPUT:
        onnx.name_output(path, head.output)
    if rewrite:
        onnx.part_norms(path)
    return names
