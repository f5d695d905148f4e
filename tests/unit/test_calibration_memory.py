"""Calibration keeps no rows: fifty times as many take the same memory, each measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import get_args

import onnx
import pytest
from exported import exported

from edgetf.core.schemes import CalibrationMethod
from edgetf.formats.onnx_quantize import readers

pytestmark = pytest.mark.slow
TOKENS, FEW, MANY = 64, 100, 5000

# Rows are made one by one, as they are read one by one from the training rows. `keeping` is a method of this test's
# own, which does what the library's calibrator does: it collects every activation, and looks at them at the end.
CHILD = f"""
import json, sys
import numpy as np
import onnx
from edgetf.formats.onnx_calibrate import _seen, _with_outputs, activation_ranges
from edgetf.runtime.memory import peak_rss_bytes

path, names, rows, method = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
read = 0

def feeds():
    global read
    rng = np.random.default_rng(0)
    for _ in range(rows):
        read += 1
        ids = rng.integers(5, 100, size=(1, {TOKENS}))
        yield {{"input_ids": ids, "attention_mask": np.ones_like(ids)}}

model = onnx.load(path)
if method == "keeping":
    found = [values for _, values in _seen(_with_outputs(model, names), names, feeds)]
    kept = sum(values.nbytes for values in found)
else:
    found, kept = activation_ranges(model, names, feeds, method, 256), 0
assert all(np.isfinite(found[name]).all() for name in names) if method != "keeping" else found
print(json.dumps({{"peak": peak_rss_bytes(), "read": read, "kept": kept, "values": len(found)}}))
"""


@dataclass(frozen=True)
class Answer:
    """What a process says of itself."""

    peak: int
    read: int
    kept: int
    values: int


def calibrated(rows: int, method: str) -> Answer:
    """Calibrate with so many rows in a new process."""
    path = exported("distilbert").path
    nodes = [node for node in readers(onnx.load(str(path))) if node.op_type != "Gather"]
    names = list({node.input[0]: None for node in nodes})
    words = [sys.executable, "-c", CHILD, str(path), json.dumps(names), str(rows), method]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Answer(**json.loads(done.stdout))


@pytest.mark.parametrize("method", get_args(CalibrationMethod))
def test_memory_does_not_grow_with_the_rows(method: str) -> None:
    few, many = (calibrated(rows, method) for rows in (FEW, MANY))
    times = 1 if method == "min_max" else 2  # the ends first, then the histograms between them
    assert (few.read, many.read) == (FEW * times, MANY * times)
    assert few.values == many.values == 11
    assert many.peak <= 1.2 * few.peak


def test_keeping_the_activations_would_show() -> None:
    """A fifth of the rows is enough: what they fill is seen in the peak, and is beyond what the test above allows."""
    few, more = calibrated(FEW, "keeping"), calibrated(MANY // 5, "keeping")
    assert more.peak - few.peak > 0.8 * (more.kept - few.kept)
    assert more.peak > 1.2 * few.peak
    assert more.kept * 5 > 1.2 * few.peak - few.peak  # what all rows would fill
