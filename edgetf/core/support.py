"""The plan-time table: which scheme of which format runs in which runtime, and what the processor must have for it.

`runs`: kernels of the runtime compute in the scheme; that may still be slow, so it is measured. `stored`: the file is
small, but weights become float again before they are used, so nothing is gained in speed. `simulated`: rounded as the
scheme says and computed in float: for its accuracy only. What is not in the table is refused before any work.

Sources: measurements of edgetf's own (docs/quantization.md), and for TensorRT its operator documentation, which asks
for compute capability 8.9 or more (Ada, Hopper, Thor) where weights and activations are FP8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgetf.core.schemes import Format, Granularity, Kind, Runtime, Scheme

RUNTIMES_OF: dict[Kind, tuple[Runtime, ...]] = {
    "torch": ("torch_cuda",),
    "onnx": ("ort", "tensorrt"),
    "tflite": ("litert", "tflite_runtime"),
}
HERE: dict[Format, Runtime] = {"onnx": "ort", "tflite": "litert"}  # what checks a file while it is made


@dataclass(frozen=True)
class Support:
    """How a scheme is run."""

    how: Literal["runs", "stored", "simulated"] = "runs"
    granularity: Granularity | None = None  # the only one whose answers are right; None: either
    capability: float = 0.0  # lowest compute capability of a GPU


RUNS, STORED, SIMULATED = Support(), Support("stored"), Support("simulated")

SUPPORT: dict[Runtime, dict[Scheme, Support]] = {
    "ort": {
        "fp32": RUNS,
        "fp16": STORED,
        "w8a8_dynamic": RUNS,
        "w8a8": RUNS,
        "w8a16": STORED,
        "w8": RUNS,
        "w4": RUNS,
        "fp8_e4m3": SIMULATED,
    },
    "litert": {
        "fp32": RUNS,
        "fp16": STORED,
        "w8a8_dynamic": RUNS,
        "w8a8": RUNS,
        "w8a16": RUNS,  # by reference kernels: 20 times as long as float on x86
        "w8": STORED,
        "w4": RUNS,
    },
    "tflite_runtime": {
        "fp32": RUNS,
        "fp16": STORED,
        "w8a8_dynamic": Support(granularity="per_tensor"),
        "w8a8": Support(granularity="per_tensor"),
        "w8a16": Support(granularity="per_tensor"),
        "w8": STORED,
    },
    "torch_cuda": {
        "fp32": RUNS,
    },
    "tensorrt": {
        "fp32": RUNS,
        "fp16": RUNS,
        "w8a8": RUNS,
        "fp8_e4m3": Support(granularity="per_tensor", capability=8.9),
    },
}
