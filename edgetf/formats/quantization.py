"""What quantizing a file is asked, and what is found in the file that came out; the same for every format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.schemes import CalibrationMethod, Granularity, Scheme, Signedness, Writer

Feed = dict[str, NDArray[np.int64]]  # named inputs of one batch, each (B, T)
Feeds = Callable[[], Iterator[Feed]]  # calibration rows from the start, batch by batch: never all in memory


@dataclass(frozen=True)
class Quantization:
    """A scheme with its settings. `keep_float` are patterns over the names of weights that stay in float."""

    scheme: Scheme
    granularity: Granularity = "per_channel"
    activations: Signedness = "unsigned"
    method: CalibrationMethod = "min_max"
    keep_float: tuple[str, ...] = ()
    writer: Writer = "onnxruntime"  # of ONNX files

    def record(self) -> dict[str, Any]:
        """As JSON, for a key and a manifest."""
        return asdict(self)


@dataclass(frozen=True)
class GraphSummary:
    """Operators by type; of those that read weights, how many read quantized ones; what goes in and out.

    `part_bytes` are the bytes of all constants by part: embeddings, attention, feed_forward, other. `inputs` and
    `outputs` are types by name, such as `int64` and `float32`. `weighted` are the names of the operators
    that read weights; in an fp32 file of ours, the paths of their modules.
    """

    ops: dict[str, int]
    quantized: int
    quantizable: int
    part_bytes: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    weighted: tuple[str, ...] = ()
