"""What activations of a TFLite file range over, seen while calibration rows run through it one at a time.

A row runs through the signature that an app would take for it. What is seen counts for all signatures: each has tensors
of its own, and with ranges of its own a text would get other answers with more padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.algorithms.observers import Range
from edgetf.core.errors import needs
from edgetf.core.metrics import Floats
from edgetf.formats.calibrate import observed_ranges
from edgetf.formats.quantization import Feed, Feeds, Quantization
from edgetf.formats.tflite_graph import constant, module_of, op_name, read_graph, tensor_name, weight_reads
from edgetf.runtime.backend import fitting_length
from edgetf.runtime.litert import SIGNATURE

Ends = dict[str, NDArray[np.float32]]


def activation_ranges(path: Path, how: Quantization, feeds: Feeds, kind: str) -> dict[str, Ends]:
    """`min` and `max`, each of shape (1,), of what weighted operators of this kind read and give, by tensor name.

    Raises:
        ParityError: there is no row, or a value is not a finite number.
    """
    with needs("tflite"):
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_preserve_all_tensors=True)
    model, levels = read_graph(path), 1 << (16 if how.scheme == "w8a16" else 8)
    roles = [_roles(model, subgraph, kind) for subgraph in model.subgraphs]
    places = {
        int(each.signatureKey.decode().removeprefix(SIGNATURE)): each.subgraphIndex for each in model.signatureDefs
    }
    lengths = tuple(sorted(places))
    runners = {length: interpreter.get_signature_runner(f"{SIGNATURE}{length}") for length in lengths}

    def seen() -> Iterator[tuple[str, Floats]]:
        for feed in feeds():
            rows, tokens = next(iter(feed.values())).shape
            length = fitting_length(lengths, tokens)
            for row in range(rows):
                runners[length](**fitted(feed, row, length))
                for index, role in roles[places[length]].items():
                    yield role, interpreter.get_tensor(index, places[length])

    ranges = observed_ranges(seen, how.method, levels)
    return {
        tensor_name(subgraph.tensors[index]): _ends(ranges[role])
        for subgraph, known in zip(model.subgraphs, roles, strict=True)
        for index, role in known.items()
        if role in ranges
    }


def _ends(covered: Range) -> Ends:
    low, high = covered
    return {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}


def fitted(feed: Feed, row: int, length: int) -> dict[str, NDArray[np.int32]]:
    """One row of a batch as int32 arrays (1, length): cut, or padded with zeros, which the mask leaves out.

    >>> fitted({"input_ids": np.array([[7, 8, 9]])}, 0, 5)["input_ids"].tolist()
    [[7, 8, 9, 0, 0]]
    """
    rows = {name: array[row : row + 1, :length].astype(np.int32) for name, array in feed.items()}
    return {name: np.pad(array, ((0, 0), (0, length - array.shape[1]))) for name, array in rows.items()}


def _roles(model: Any, subgraph: Any, kind: str) -> dict[int, str]:
    """By tensor number, what an activation is to the first module that reads or gives it: alike in every signature."""
    found: dict[int, str] = {}
    for op, weight in weight_reads(model, subgraph):
        if op_name(model, op) == kind:
            for side, indices in (("reads", op.inputs), ("gives", op.outputs)):
                for index in indices:
                    if index >= 0 and constant(model, subgraph.tensors[index]) is None:
                        found.setdefault(index, f"what {module_of(weight)} {side}")
    return found
