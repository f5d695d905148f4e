"""A look into a TFLite file: its operators, and how much of its weights is quantized."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgetf.core.errors import needs
from edgetf.formats.quantization import GraphSummary

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
