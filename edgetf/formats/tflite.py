"""TFLite: conversion by litert-torch with one signature a length, INT8 dynamic quantization by ai-edge-quantizer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edgetf.core.errors import ParityError, needs
from edgetf.core.files import write_problem
from edgetf.core.quiet import quiet
from edgetf.formats.onnx import GraphSummary
from edgetf.formats.wrapper import LogitsOnly
from edgetf.runtime.litert import SIGNATURE

MODEL = "model.tflite"


def export_tflite(model: Any, path: Path, lengths: tuple[int, ...]) -> tuple[str, ...]:
    """Write a classifier of batch 1 with int32 inputs and one signature a length; returns the input names.

    Raises:
        ParityError: the converter cannot write it.
    """
    with needs("tflite"), quiet():
        import litert_torch
        import torch
    graph = LogitsOnly(model).eval()
    try:
        with quiet(), torch.no_grad():
            converter = litert_torch
            for length in lengths:
                named = dict(zip(graph.input_names, graph.sample(1, length, torch.int32), strict=True))
                converter = converter.signature(f"{SIGNATURE}{length}", graph, sample_kwargs=named)
            converter.convert().export(str(path))
    except Exception as error:  # the converter raises many kinds, none of its own
        if write_problem(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ParityError(f"export: litert-torch cannot write this model as TFLite ({reason})") from error
    return graph.input_names


def quantize_dynamic_int8(source: Path, path: Path) -> None:
    """INT8 weights and embeddings, activations quantized as they come."""
    with needs("tflite"), quiet():
        from ai_edge_quantizer import quantizer, recipe
    with quiet():
        worker = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32())
        worker.quantize(enable_progress_report=False).export_model(str(path), overwrite=True)


_READ_WEIGHTS = {"FULLY_CONNECTED", "EMBEDDING_LOOKUP", "CONV_2D"}


def summarize_tflite(path: Path) -> GraphSummary:
    """Count the operators of the first signature, and how many weighted ones read INT8 constants."""
    with needs("litert"):
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=str(path), experimental_default_delegate_latest_features=False)
    tensors = {item["index"]: item for item in interpreter.get_tensor_details()}
    ops: Counter[str] = Counter()
    quantized = quantizable = 0
    for op in interpreter._get_ops_details():
        ops[op["op_name"]] += 1
        if op["op_name"] not in _READ_WEIGHTS:
            continue
        names = [tensors[index]["dtype"].__name__ for index in op["inputs"] if index in tensors]
        quantizable += 1
        quantized += "int8" in names
    return GraphSummary(dict(ops.most_common()), quantized, quantizable)
