"""The stored tensors and operators of a TFLite decoder's `decode` signature, read in place.

Source: the schema that ai-edge-litert ships (`schema_py_generated`).
"""

from __future__ import annotations

from pathlib import Path

from edgetf.core.errors import ArtifactError
from edgetf.predict.decode_bytes import Stored, Use
from edgetf.predict.tflite_ops import reading

SIGNATURE = "decode"


def read_tflite(path: Path) -> tuple[dict[str, Stored], list[Use]]:
    """What is stored, by its buffer, which tied weights share; and the operators in order.

    Raises:
        ArtifactError: it is not a TFLite file, or cannot decode.
        DeviceError: ai-edge-litert is not installed.
    """
    with reading(path) as reader:
        subgraph = reader.named(SIGNATURE)
        if subgraph is None:
            raise ArtifactError(f"{path}: it has no signature {SIGNATURE}, so that it does not write token by token")
        stored: dict[str, Stored] = {}
        uses = []
        for place in range(subgraph.OperatorsLength()):
            op = subgraph.Operators(place)
            reads = [int(index) for index in op.InputsAsNumpy() if index >= 0] if op.InputsLength() else []
            gives = [int(index) for index in op.OutputsAsNumpy()] if op.OutputsLength() else []
            reads += [scales for index in reads if (scales := reader.block_scales(subgraph, index)) is not None]
            constant = {index: reader.buffer(subgraph, index) for index in reads if reader.is_constant(subgraph, index)}
            for index, name in constant.items():
                shape = reader.shape(subgraph, index)
                size = reader.size_of(subgraph, index) + reader.scale_bytes(subgraph, index)
                stored[name] = Stored(size, shape[0] if shape else 1)
            names = tuple(constant.get(index, str(index)) for index in reads)
            uses.append(Use(reader.name(op), names, tuple(map(str, gives))))
        return stored, uses
