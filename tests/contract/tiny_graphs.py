"""One bag of words as a model file of every backend: ``logits = bias + mean over the unmasked ids of weight[id]``.

Made with the formats' own writers, without torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

WORDS, CLASSES = 50, 3
LENGTHS = (4, 8)
WEIGHT = np.random.default_rng(0).normal(size=(WORDS, CLASSES)).astype(np.float32)
BIAS = np.array([0.1, -0.2, 0.3], dtype=np.float32)


def expected(
    ids: NDArray[np.int64], mask: NDArray[np.int64], weight: NDArray[np.float32] = WEIGHT
) -> NDArray[np.float64]:
    """Logits (B, C) of ids and mask (B, T)."""
    rows = weight[ids].astype(np.float64) * mask[:, :, None]
    return np.asarray(rows.sum(axis=1) / mask.sum(axis=1, keepdims=True) + BIAS)


def write_fake(path: Path, weight: NDArray[np.float32] = WEIGHT) -> Path:
    """As JSON, for the fake backend."""
    path.write_text(json.dumps({"weight": weight.tolist(), "bias": BIAS.tolist()}))
    return path


def write_onnx(path: Path, weight: NDArray[np.float32] = WEIGHT, mask_name: str = "attention_mask") -> Path:
    """As ONNX with free batch and length."""
    onnx = pytest.importorskip("onnx", reason="needs edgetf[compress]")
    from onnx import TensorProto, helper, numpy_helper

    shape = ["batch", "tokens"]
    nodes = [
        helper.make_node("Gather", ["weight", "input_ids"], ["rows"]),
        helper.make_node("Cast", [mask_name], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["rows", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens_axis"], ["summed"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens_axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["summed", "count"], ["mean"]),
        helper.make_node("Add", ["mean", "bias"], ["logits"]),
    ]
    constants = {"weight": weight, "bias": BIAS, "last": np.array([2]), "tokens_axis": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "bag",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", mask_name)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def write_tflite(path: Path, weight: NDArray[np.float32] = WEIGHT, prefix: str = "seq_") -> Path:
    """As TensorFlow Lite with a signature for each of `LENGTHS`, sharing the weights."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs edgetf[litert]")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = _Graph(schema, model)
    model.subgraphs, model.signatureDefs = [], []
    for position, length in enumerate(LENGTHS):
        model.subgraphs.append(graph.bag_of_words(length, weight))
        model.signatureDefs.append(graph.signature(f"{prefix}{length}", position))
    model.operatorCodes = graph.codes
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


class _Graph:
    """Builds subgraphs of a .tflite file with the schema's own classes."""

    def __init__(self, schema: Any, model: Any) -> None:
        self.schema, self.model = schema, model
        self.codes: list[Any] = []
        self.shared: dict[bytes, int] = {}

    def _buffer(self, content: bytes) -> int:
        if content not in self.shared:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(content, dtype=np.uint8)
            self.model.buffers.append(buffer)
            self.shared[content] = len(self.model.buffers) - 1
        return self.shared[content]

    def _tensor(self, name: str, shape: list[int], kind: str = "FLOAT32", value: Any = None) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape = name, shape
        tensor.type = getattr(self.schema.TensorType, kind)
        tensor.buffer = 0 if value is None else self._buffer(np.ascontiguousarray(value).tobytes())
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _op(self, name: str, inputs: list[int], output: int, options: str = "", **fields: Any) -> int:
        number = getattr(self.schema.BuiltinOperator, name)
        known = [code.builtinCode for code in self.codes]
        if number not in known:
            code = self.schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = number
            code.version = 1
            self.codes.append(code)
            known.append(number)
        op = self.schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = known.index(number), inputs, [output]
        if options:
            op.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            op.builtinOptions = getattr(self.schema, f"{options}T")()
            for field, value in fields.items():
                setattr(op.builtinOptions, field, value)
        self.operators.append(op)
        return output

    def bag_of_words(self, length: int, weight: NDArray[np.float32]) -> Any:
        """The model for inputs (1, length)."""
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        tensor, op = self._tensor, self._op
        ids, mask = (tensor(name, [1, length], "INT32") for name in ("input_ids", "attention_mask"))
        table = tensor("weight", [WORDS, CLASSES], value=weight)
        bias = tensor("bias", [1, CLASSES], value=BIAS)
        axis = tensor("axis", [1], "INT32", np.array([1], dtype=np.int32))
        shape = tensor("shape", [3], "INT32", np.array([1, length, 1], dtype=np.int32))
        rows = op("GATHER", [table, ids], tensor("rows", [1, length, CLASSES]), "GatherOptions", axis=0)
        mask2 = op("CAST", [mask], tensor("mask2", [1, length]))
        mask3 = op("RESHAPE", [mask2, shape], tensor("mask3", [1, length, 1]))
        kept = op("MUL", [rows, mask3], tensor("kept", [1, length, CLASSES]), "MulOptions")
        summed = op("SUM", [kept, axis], tensor("summed", [1, CLASSES]), "ReducerOptions", keepDims=False)
        count = op("SUM", [mask2, axis], tensor("count", [1, 1]), "ReducerOptions", keepDims=True)
        mean = op("DIV", [summed, count], tensor("mean", [1, CLASSES]), "DivOptions")
        logits = op("ADD", [mean, bias], tensor("logits", [1, CLASSES]), "AddOptions")
        graph = self.schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = f"bag_{length}", self.tensors, self.operators
        graph.inputs, graph.outputs = [ids, mask], [logits]
        return graph

    def signature(self, key: str, position: int) -> Any:
        """The names under which the tensors of a subgraph are known."""
        graph = self.model.subgraphs[position]
        signature = self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, position
        signature.inputs = [self._named("input_ids", graph.inputs[0]), self._named("attention_mask", graph.inputs[1])]
        signature.outputs = [self._named("logits", graph.outputs[0])]
        return signature

    def _named(self, name: str, index: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        return entry
