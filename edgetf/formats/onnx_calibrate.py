"""What activations of an ONNX file range over, seen while calibration rows run through it one batch at a time.

Nothing is kept of a batch but two numbers and a histogram for each value, so that memory does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgetf.algorithms.observers import BINS, Range, chosen_range
from edgetf.core.errors import ParityError, needs
from edgetf.core.metrics import Floats
from edgetf.core.schemes import CalibrationMethod
from edgetf.formats.quantization import Feeds


def activation_ranges(
    model: Any, names: Sequence[str], feeds: Feeds, method: CalibrationMethod, levels: int
) -> dict[str, Range]:
    """The range of every named value that its `levels` steps should cover.

    The rows run once for the ends and, but for min_max, once more for the histograms between them.

    Raises:
        ParityError: there is no row, or a value is not a finite number.
    """
    if not names:
        return {}
    session = _with_outputs(model, names)
    ends: dict[str, Range] = {}
    for name, values in _seen(session, names, feeds):
        low, high = ends.get(name, (0.0, 0.0))
        ends[name] = float(np.minimum(low, values.min())), float(np.maximum(high, values.max()))  # a NaN stays one
    if not ends:
        raise ParityError("calibration: got no rows, allowed: 1 or more; raise quantize.calibration.rows")
    broken = next((name for name, (low, high) in ends.items() if not np.isfinite([low, high]).all()), None)
    if broken is not None:
        raise ParityError(f"calibration: {broken} is not a finite number for some row; the model is broken")
    if method == "min_max":
        return ends
    counts: dict[str, Floats] = {name: np.zeros(BINS) for name in names}
    for name, values in _seen(session, names, feeds):
        counts[name] += np.histogram(values, BINS, ends[name] if ends[name][0] < ends[name][1] else (0.0, 1.0))[0]
    return {name: chosen_range(counts[name], *ends[name], method, levels) for name in names}


def _with_outputs(model: Any, names: Sequence[str]) -> Any:
    """A session of the model that gives these values too."""
    with needs("compress"):
        import onnx
        import onnxruntime as ort
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    given = {value.name for value in copy.graph.output}
    for name in names:
        if name not in given:
            copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena keeps the largest batch it has seen
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _seen(session: Any, names: Sequence[str], feeds: Feeds) -> Iterator[tuple[str, Floats]]:
    """Every named value of every batch."""
    for feed in feeds():
        yield from zip(names, session.run(list(names), feed), strict=True)
