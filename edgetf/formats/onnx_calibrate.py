"""What activations of an ONNX file range over, seen while calibration rows run through it one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edgetf.algorithms.observers import Range
from edgetf.core.errors import needs
from edgetf.core.metrics import Floats
from edgetf.core.schemes import CalibrationMethod
from edgetf.formats.calibrate import observed_ranges
from edgetf.formats.quantization import Feeds


def activation_ranges(
    model: Any, names: Sequence[str], feeds: Feeds, method: CalibrationMethod, levels: int
) -> dict[str, Range]:
    """The range of every named value that its `levels` steps should cover.

    Raises:
        ParityError: there is no row, or a value is not a finite number.
    """
    if not names:
        return {}
    session = _with_outputs(model, names)
    return observed_ranges(lambda: _seen(session, names, feeds), method, levels)


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
