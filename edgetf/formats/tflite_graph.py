"""A .tflite file as objects: its tensors, operators and constants. Source: the schema that ai-edge-litert ships."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import ArtifactError, needs

# What quantization is about.
READ_WEIGHTS = ("FULLY_CONNECTED", "EMBEDDING_LOOKUP", "CONV_2D", "BATCH_MATMUL", "GATHER")
_WEIGHT = re.compile(r"\.weight(;\d+)?$")
_INDEX_TYPES = ("int32", "int64", "bool")
_DTYPES = {"INT4": "int4", "INT2": "int2"}  # which numpy does not have


def read_graph(path: Path) -> Any:
    """The model object of a file.

    Raises:
        ArtifactError: it is not a TFLite file.
    """
    with needs("litert"):
        from ai_edge_litert.tools import flatbuffer_utils
    try:
        with path.open("rb") as stream:
            known = stream.read(8)[4:] == b"TFL3"
        if known:
            return flatbuffer_utils.read_model(str(path))
    except (struct.error, IndexError, ValueError, TypeError):  # what a cut table ends in
        pass
    raise ArtifactError(f"{path}: not a TFLite file, or cut; make it again")


def write_graph(model: Any, path: Path) -> None:
    """Write a model object."""
    with needs("litert"):
        from ai_edge_litert.tools import flatbuffer_utils
    flatbuffer_utils.write_model(model, str(path))


@cache
def _named(enum: str) -> dict[int, str]:
    """Names by number of an enumeration of the schema."""
    with needs("litert"):
        from ai_edge_litert import schema_py_generated as schema
    return {number: name for name, number in vars(getattr(schema, enum)).items() if isinstance(number, int)}


def op_name(model: Any, op: Any) -> str:
    """What the operator is called in the schema, such as `FULLY_CONNECTED`."""
    return _named("BuiltinOperator")[model.operatorCodes[op.opcodeIndex].builtinCode]


def type_name(tensor: Any) -> str:
    """Its element type as numpy calls it, where numpy has it."""
    name = _named("TensorType")[tensor.type]
    return _DTYPES.get(name, name.lower())


def tensor_name(tensor: Any) -> str:
    """Its name, as text."""
    return tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)


def module_of(weight: Any) -> str:
    """The path of the module whose weight it is, in a file of ours: whatever the signature."""
    return _WEIGHT.sub("", tensor_name(weight))


def constant(model: Any, tensor: Any) -> NDArray[np.uint8] | None:
    """The stored bytes of a constant, or None for what is computed."""
    data = model.buffers[tensor.buffer].data  # an array, or what lies behind the tables of a large file
    return np.frombuffer(memoryview(data), np.uint8) if data is not None and len(data) else None


def inputs_of(subgraph: Any, op: Any) -> list[Any]:
    """The tensors that an operator reads; those it leaves out have number -1."""
    return [subgraph.tensors[index] for index in op.inputs if index >= 0]


def weight_reads(model: Any, subgraph: Any) -> Iterator[tuple[Any, Any]]:
    """Every operator that reads a constant of two dimensions or more, with that constant.

    A weight is also found behind the DEQUANTIZE that makes it float when it is used. Tables of integers, such as
    shapes and positions, are no weights.
    """
    behind = {op.outputs[0]: op.inputs[0] for op in subgraph.operators if op_name(model, op) == "DEQUANTIZE"}
    for op in subgraph.operators:
        if op_name(model, op) not in READ_WEIGHTS:
            continue
        read = [subgraph.tensors[behind.get(index, index)] for index in op.inputs if index >= 0]
        weights = [tensor for tensor in read if constant(model, tensor) is not None and _is_matrix(tensor)]
        if weights:
            yield op, weights[0]


def _is_matrix(tensor: Any) -> bool:
    return tensor.shape is not None and len(tensor.shape) >= 2 and type_name(tensor) not in _INDEX_TYPES
