"""What activations of a TFLite file range over, seen while calibration rows run through it one at a time.

A signature has tensors of its own, so every row runs through every signature: padded, or cut, to its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import needs
from edgetf.core.metrics import Floats
from edgetf.formats.calibrate import observed_ranges
from edgetf.formats.quantization import Feed, Feeds, Quantization
from edgetf.formats.tflite_graph import constant, op_name, read_graph, tensor_name, type_name
from edgetf.runtime.litert import SIGNATURE

Ends = dict[str, NDArray[np.float32]]


def activation_ranges(path: Path, how: Quantization, feeds: Feeds, ops: tuple[str, ...]) -> dict[str, Ends]:
    """`min` and `max`, each of shape (1,), of what the operators of these kinds read and give, by tensor name.

    Raises:
        ParityError: there is no row, or a value is not a finite number.
    """
    with needs("tflite"):
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_preserve_all_tensors=True)
    model, levels = read_graph(path), 1 << (16 if how.scheme == "w8a16" else 8)
    wanted = [_wanted(model, subgraph, ops) for subgraph in model.subgraphs]
    lengths = [int(each.signatureKey.decode().removeprefix(SIGNATURE)) for each in model.signatureDefs]
    places = [each.subgraphIndex for each in model.signatureDefs]

    def seen() -> Iterator[tuple[str, Floats]]:
        for feed in feeds():
            for length, place in zip(lengths, places, strict=True):
                runner = interpreter.get_signature_runner(f"{SIGNATURE}{length}")
                for row in range(len(next(iter(feed.values())))):
                    runner(**fitted(feed, row, length))
                    for index, name in wanted[place].items():
                        yield name, interpreter.get_tensor(index, place)

    ranges = observed_ranges(seen, how.method, levels)
    return {
        name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
        for name, (low, high) in ranges.items()
    }


def fitted(feed: Feed, row: int, length: int) -> dict[str, NDArray[np.int32]]:
    """One row of a batch as int32 arrays (1, length): cut, or padded with zeros, which the mask leaves out.

    >>> fitted({"input_ids": np.array([[7, 8, 9]])}, 0, 5)["input_ids"].tolist()
    [[7, 8, 9, 0, 0]]
    """
    rows = {name: array[row : row + 1, :length].astype(np.int32) for name, array in feed.items()}
    return {name: np.pad(array, ((0, 0), (0, length - array.shape[1]))) for name, array in rows.items()}


def _wanted(model: Any, subgraph: Any, ops: tuple[str, ...]) -> dict[int, str]:
    """Names, by number, of the float activations around the operators of these kinds."""
    near = {
        index
        for op in subgraph.operators
        if op_name(model, op) in ops
        for index in (*op.inputs, *op.outputs)
        if index >= 0
    }
    tensors = {index: subgraph.tensors[index] for index in sorted(near)}
    return {
        index: tensor_name(tensor)
        for index, tensor in tensors.items()
        if constant(model, tensor) is None and type_name(tensor) == "float32"
    }
