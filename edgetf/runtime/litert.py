"""LiteRT (TensorFlow Lite) on the CPU, with its XNNPACK delegate.

A .tflite file has fixed shapes, so ours hold one signature a length (``seq_64``), sharing the weights. Ids are int32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import ArtifactError, ParityError, needs
from edgetf.core.metrics import Floats
from edgetf.runtime.backend import Engine, Session, lacks_provider
from edgetf.runtime.inputs import Batch

SIGNATURE = "seq_"
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
XNNPACK, BUILT_IN, DELEGATE = "XNNPACK", "built-in kernels", "DELEGATE"
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
        self.engine = Engine.of(XNNPACK, _nodes(interpreter))

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


def _nodes(interpreter: Any) -> dict[str, int]:
    """How many ops of the first signature the delegate computes, and how many the built-in kernels do.

    A delegate stands in the list as an op of its own behind those it took over, which are what lies between its inputs
    and its outputs.
    """
    listed = interpreter._get_ops_details()
    ops = [op for op in listed if op["op_name"] != DELEGATE]
    maker = {int(tensor): k for k, op in enumerate(ops) for tensor in op["outputs"]}
    taken: set[int] = set()
    for delegate in (op for op in listed if op["op_name"] == DELEGATE):
        known = {int(tensor) for tensor in delegate["inputs"]}
        waiting = [int(tensor) for tensor in delegate["outputs"]]
        while waiting:
            k = maker.get(tensor) if (tensor := waiting.pop()) not in known else None
            if k is not None and k not in taken:
                taken.add(k)
                waiting += [int(each) for each in ops[k]["inputs"]]
    counted = {XNNPACK: len(taken), BUILT_IN: len(ops) - len(taken)}
    return {name: count for name, count in counted.items() if count}


class LitertBackend:
    """Opens .tflite files."""

    name = "litert"

    def load(self, model: Path, threads: int, provider: str | None = None) -> Session:
        """See `Backend.load`."""
        with needs("litert"):
            from ai_edge_litert.interpreter import Interpreter
        return open_tflite(Interpreter, "LiteRT", model, threads, provider)


def open_tflite(
    interpreter_class: Any, runtime: str, model: Path, threads: int, provider: str | None = None
) -> Session:
    """A session of a file in one of the interpreters, which share their interface; `runtime` is what it is called.

    Raises:
        DeviceError: a delegate is asked for that the interpreter does not have by itself.
        ArtifactError: the file is missing or corrupt.
        ParityError: it holds an op that the runtime lacks.
    """
    if provider not in (None, XNNPACK):
        raise lacks_provider(runtime, provider, [XNNPACK])
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
