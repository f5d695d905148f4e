"""LiteRT (TensorFlow Lite) on the CPU, with its XNNPACK delegate.

A .tflite file has fixed shapes, so ours hold one signature a length (``seq_64``), sharing the weights. Ids are int32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import ArtifactError, ParityError, needs
from edgetf.core.metrics import Floats
from edgetf.runtime.backend import Engine, Session
from edgetf.runtime.inputs import Batch

SIGNATURE = "seq_"
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
_LACKS_OP = ("unresolved", "custom op", "failed to prepare", "failed to invoke")


class LitertSession:
    """One .tflite file of batch size 1; a larger batch is run row by row."""

    def __init__(self, interpreter: Any, runtime: str = "LiteRT") -> None:
        names = [name for name in interpreter.get_signature_list() if name.startswith(SIGNATURE)]
        lengths = tuple(sorted(int(name.removeprefix(SIGNATURE)) for name in names))
        self._runners = {length: interpreter.get_signature_runner(f"{SIGNATURE}{length}") for length in lengths}
        self.lengths: tuple[int, ...] | None = lengths
        details = self._runners[lengths[0]].get_input_details()
        self.input_names = tuple(name for name in INPUT_NAMES if name in details)
        self._interpreter, self._runtime = interpreter, runtime  # the runners do not keep it alive
        ran = "XNNPACK" if _delegated(interpreter) else "built-in kernels"
        self.engine = Engine(asked="XNNPACK", ran=ran)

    def run(self, batch: Batch) -> Floats:
        """Logits (B, C) in float64; T must be one of `lengths`.

        Raises:
            ParityError: it holds an op that the runtime cannot compute in the type it has.
        """
        runner = self._runners[batch.input_ids.shape[1]]
        rows = []
        for row in range(batch.input_ids.shape[0]):
            feed = {
                name: array[row : row + 1].astype(np.int32) for name, array in batch.named(self.input_names).items()
            }
            try:
                rows.append(next(iter(runner(**feed).values()))[0])
            except RuntimeError as error:
                message = " ".join(str(error).split())[:200]
                raise ParityError(f"{self._runtime} cannot run an op of this file ({message})") from None
        return np.asarray(rows, dtype=np.float64)


def _delegated(interpreter: Any) -> bool:
    """Whether a delegate took over part of the graph: it then stands in the plan as an op of that name."""
    ops = interpreter._get_ops_details()
    return any(op["op_name"] == "DELEGATE" for op in ops)


class LitertBackend:
    """Opens .tflite files."""

    name = "litert"

    def load(self, model: Path, threads: int) -> Session:
        """See `Backend.load`."""
        with needs("litert"):
            from ai_edge_litert.interpreter import Interpreter
        return open_tflite(Interpreter, "LiteRT", model, threads)


def open_tflite(interpreter_class: Any, runtime: str, model: Path, threads: int) -> Session:
    """A session of a file in one of the interpreters, which share their interface; `runtime` is what it is called.

    Raises:
        ArtifactError: the file is missing or corrupt.
        ParityError: it holds an op that the runtime lacks.
    """
    if not model.is_file():
        raise ArtifactError(f"{model}: not found")
    try:
        interpreter = interpreter_class(model_path=str(model), num_threads=threads)
        interpreter.allocate_tensors()  # only now does the delegate take its ops
        if not any(name.startswith(SIGNATURE) for name in interpreter.get_signature_list()):
            raise ArtifactError(f"{model}: it has no {SIGNATURE}LENGTH signature; export it with edgetf")
        return LitertSession(interpreter, runtime)
    except (ValueError, RuntimeError) as error:
        message = " ".join(str(error).split())[:200]
        if any(words in message.lower() for words in _LACKS_OP):
            raise ParityError(f"{model}: {runtime} lacks an op of it ({message})") from None
        raise ArtifactError(f"{model}: {runtime} cannot open it ({message})") from None
