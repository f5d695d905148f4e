"""Does this processor multiply matrices rightly? Asked of an emulator before anything is measured on it.

The files in `check/` hold one product each, ``y = x @ W``, as fp32 and as INT8 (signed weights, activations scaled
anew for every input). x and W are whole numbers, and the extremes of each row of x and each column of W are those of 8
bits, so that every scale is 1 and nothing is rounded: the answer is known exactly, in any order of summation.

QEMU 7.2 needs this: with its SME (``-cpu max``) INT8 products come out as noise, without a word.
The files are written by tests/device/check_files.py.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
FOLDER = Path(__file__).parent / "check"
ROWS, INNER, COLUMNS = 8, 64, 32
TOLERANCE = 1e-4  # of the largest answer


def inputs() -> Floats32:
    """x, shape (8, 64): whole numbers from -128 to 127, both in every row.

    >>> inputs().shape, inputs().min(axis=1).max(), inputs().max(axis=1).min()
    ((8, 64), np.float32(-128.0), np.float32(127.0))
    """
    row, column = np.ogrid[:ROWS, :INNER]
    x = (row * 31 + column * 17 + row * column * 3) % 256 - 128
    x[:, 0], x[:, 1] = -128, 127
    return np.asarray(x, dtype=np.float32)


def weights() -> Floats32:
    """W, shape (64, 32): whole numbers from -127 to 127, the last in every column."""
    row, column = np.ogrid[:INNER, :COLUMNS]
    w = (row * 7 + column * 13 + row * column) % 255 - 127
    w[0] = 127
    return np.asarray(w, dtype=np.float32)


def selfcheck(folder: Path = FOLDER) -> dict[str, Any]:
    """The largest error of each file that a runtime here opens, as a share of the largest answer; NaN is infinite."""
    x, answer = inputs(), inputs() @ weights()
    exact = np.asarray(inputs().astype(np.int64) @ weights().astype(np.int64))
    errors = {"numpy fp32": _error(answer, exact)}
    for path in sorted(folder.iterdir()):
        run = _runs(path)
        if run is not None:
            errors[path.name] = _error(run(x), exact)
    return {"errors": errors}


def _runs(path: Path) -> Callable[[Floats32], Floats32] | None:
    """What computes a file, or None where its runtime is not installed."""
    match path.suffix:
        case ".onnx" if find_spec("onnxruntime"):
            return lambda x: _run_onnx(path, x)
        case ".tflite" if find_spec("ai_edge_litert"):
            return lambda x: _run_tflite(path, x)
        case _:
            return None


def _run_onnx(path: Path, x: Floats32) -> Floats32:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def _run_tflite(path: Path, x: Floats32) -> Floats32:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def _error(got: NDArray[Any], exact: NDArray[Any]) -> float:
    """The largest difference, as a share of the largest answer.

    >>> _error(np.array([2.0, 3.0]), np.array([2, 4])), _error(np.array([np.nan]), np.array([1]))
    (0.25, inf)
    """
    error = float(np.abs(got - exact).max() / np.abs(exact).max())
    return error if np.isfinite(error) else float("inf")
