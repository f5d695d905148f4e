"""The operators of a TFLite file in its signature of a given length, whose shapes all stand in the file.

Source: the schema that ai-edge-litert ships (`schema_py_generated`); read in place, so that weights are not copied.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError, needs
from edgetf.predict.ops import PRODUCTS, Op, Shape, group_of, product_flops

SIGNATURE = "seq_"
_BYTES = {"FLOAT32": 4.0, "FLOAT16": 2.0, "INT32": 4.0, "INT64": 8.0, "INT16": 2.0, "INT4": 0.5, "INT2": 0.25}
_LOOKUPS, _ROUNDED = ("EMBEDDING_LOOKUP", "GATHER"), ("INT8", "INT4", "INT2")
_NAMES = {"FLOAT32": "float", "FLOAT16": "fp16"}


def tflite_ops(path: Path, seq_len: int) -> tuple[int, list[Op]]:
    """The length of the shortest signature that holds so many tokens, or of the longest, and its operators.

    Raises:
        ArtifactError: it is not a TFLite file, or none that edgetf wrote.
        DeviceError: ai-edge-litert is not installed.
    """
    with reading(path) as reader:
        length, subgraph = reader.signature(path, seq_len)
        return length, reader.ops(subgraph)


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """The tables of a TFLite file; what a cut one raises while they are walked is an ArtifactError.

    Raises:
        ArtifactError: it is not a TFLite file, cut, or cannot be read.
        DeviceError: ai-edge-litert is not installed.
    """
    with needs("litert"):
        from ai_edge_litert import schema_py_generated as schema
    try:
        content = path.read_bytes()
        if content[4:8] != b"TFL3":
            raise ArtifactError(f"{path}: not a TFLite file; make it again")
        yield Reader(schema, schema.Model.GetRootAs(content))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
    except (struct.error, IndexError, TypeError, KeyError):  # what a cut table ends in
        raise ArtifactError(f"{path}: not a TFLite file, or cut; make it again") from None


class Reader:
    """Walks the tables of one file."""

    def __init__(self, schema: Any, model: Any) -> None:
        self.schema, self.model = schema, model
        self.op_names = _numbers(schema.BuiltinOperator)
        self.type_names = _numbers(schema.TensorType)

    def signature(self, path: Path, seq_len: int) -> tuple[int, Any]:
        """The length and subgraph of the signature that a runtime picks for so many tokens."""
        found = {}
        for place in range(self.model.SignatureDefsLength()):
            entry = self.model.SignatureDefs(place)
            key = entry.SignatureKey().decode()
            if key.startswith(SIGNATURE):
                found[int(key.removeprefix(SIGNATURE))] = entry.SubgraphIndex()
        if not found:
            raise ArtifactError(f"{path}: it has no {SIGNATURE}LENGTH signature; export it with edgetf")
        length = min((each for each in found if each >= seq_len), default=max(found))
        return length, self.model.Subgraphs(found[length])

    def named(self, key: str) -> Any:
        """The subgraph of the signature of that name, or None."""
        for place in range(self.model.SignatureDefsLength()):
            entry = self.model.SignatureDefs(place)
            if entry.SignatureKey().decode() == key:
                return self.model.Subgraphs(entry.SubgraphIndex())
        return None

    def ops(self, subgraph: Any) -> list[Op]:
        """Every operator, in order; a weight that is dequantized when it is used stays a weight."""
        behind: dict[int, int] = {}
        found = []
        for place in range(subgraph.OperatorsLength()):
            op = subgraph.Operators(place)
            name, reads = self.name(op), [int(index) for index in op.InputsAsNumpy() if index >= 0]
            output = int(op.Outputs(0))
            if name == "DEQUANTIZE" and self.is_constant(subgraph, reads[0]):
                behind[output] = reads[0]
            found.append(self._op(subgraph, name, [behind.get(index, index) for index in reads], output))
        return found

    def _op(self, subgraph: Any, name: str, reads: list[int], output: int) -> Op:
        gives, dtype = self.shape(subgraph, output), self._type(subgraph, output)
        stored = [index for index in reads if self.is_constant(subgraph, index)]
        moved = sum(self.size_of(subgraph, index) for index in reads if index not in stored)
        moved += self.size_of(subgraph, output)
        elements = prod(gives)
        if name == "DEQUANTIZE" and stored:
            return Op(name, "view", 0.0, 0.0, 0.0, 0, _NAMES.get(dtype, dtype.lower()))  # comes with the weight's use
        if name in _LOOKUPS and any(self._type(subgraph, index) in _ROUNDED for index in stored):
            return Op(name, "rounding", 0.0, 0.0, moved, elements, "float")  # row by row, in plain code
        if name not in PRODUCTS:
            return Op(name, group_of(name), 0.0, 0.0, moved, elements, _NAMES.get(dtype, dtype.lower()))
        flops = product_flops(self.shape(subgraph, reads[0]), gives)
        if reads[1] not in stored:
            return Op(name, "attention", flops, 0.0, moved, elements, _NAMES.get(dtype, dtype.lower()))
        kind, weights = self._type(subgraph, reads[1]), sum(self.size_of(subgraph, index) for index in stored)
        return Op(name, "product", flops, weights, moved, elements, _NAMES.get(kind, kind.lower()))

    def name(self, op: Any) -> str:
        """What the schema calls an operator."""
        code = self.model.OperatorCodes(op.OpcodeIndex())
        return self.op_names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]

    def shape(self, subgraph: Any, index: int) -> Shape:
        """Of a tensor."""
        tensor = subgraph.Tensors(index)
        return tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()

    def _type(self, subgraph: Any, index: int) -> str:
        return self.type_names[subgraph.Tensors(index).Type()]

    def size_of(self, subgraph: Any, index: int) -> float:
        """Of a tensor."""
        return prod(self.shape(subgraph, index)) * _BYTES.get(self._type(subgraph, index), 1.0)

    def buffer(self, subgraph: Any, index: int) -> str:
        """What the bytes of a tensor are called; tensors of the same bytes share them."""
        return f"buffer {subgraph.Tensors(index).Buffer()}"

    def scale_bytes(self, subgraph: Any, index: int) -> float:
        """Of the scales that stand with a tensor itself, one for each channel."""
        said = subgraph.Tensors(index).Quantization()
        return 0.0 if said is None else 4.0 * said.ScaleLength()

    def block_scales(self, subgraph: Any, index: int) -> int | None:
        """The tensor that holds a scale for each block of another one's weights, or None."""
        said = subgraph.Tensors(index).Quantization()
        if said is None or said.DetailsType() != self.schema.QuantizationDetails.BlockwiseQuantization:
            return None
        details = self.schema.BlockwiseQuantization()
        table = said.Details()
        details.Init(table.Bytes, table.Pos)
        return int(details.Scales())

    def is_constant(self, subgraph: Any, index: int) -> bool:
        """Whether its bytes are in the file: in the table, or behind it where the file is large."""
        buffer = self.model.Buffers(subgraph.Tensors(index).Buffer())
        return bool(buffer.DataLength() > 0 or buffer.Offset() > 1)


def _numbers(enum: Any) -> dict[int, str]:
    """Names of an enumeration of the schema by number."""
    return {number: name for name, number in vars(enum).items() if isinstance(number, int)}
