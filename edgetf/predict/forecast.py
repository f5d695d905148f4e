"""The latency of a file on a device by the device's fit: milliseconds, predicted, with their interval."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetf.core.device import DeviceProfile
from edgetf.core.errors import DeviceError
from edgetf.core.schemes import SCHEMES
from edgetf.predict.read import Graph, read_graph
from edgetf.predict.roofline import Estimate, counts_of
from edgetf.predict.store import Fit, find_fit


@dataclass(frozen=True)
class Forecast:
    """A prediction and where it comes from."""

    graph: Graph
    fit: Fit
    estimate: Estimate

    @property
    def interval95_ms(self) -> list[float]:
        """The ends of the interval."""
        return [round(self.estimate.low, 4), round(self.estimate.high, 4)]

    def shares(self) -> dict[str, float]:
        """What each term has of the whole, largest first."""
        parts = sorted(self.estimate.parts.items(), key=lambda part: -part[1])
        return {name: round(ms / self.estimate.ms, 4) for name, ms in parts}

    def to_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "seq_len": self.graph.seq_len,
            "latency_p50_ms": round(self.estimate.ms, 4),
            "interval95_ms": self.interval95_ms,
            "fit": self.fit.about(),
            "share": self.shares(),
        }


def forecast(path: Path, device: DeviceProfile, seq_len: int, threads: int) -> Forecast:
    """What a model file takes on a device.

    Raises:
        ArtifactError: the file cannot be read.
        DeviceError: the device does not run it, or has no fit for its runtime and scheme.
    """
    graph = read_graph(path, seq_len)
    scheme = next((known for known in SCHEMES if known == graph.scheme), None)
    if scheme is None:
        raise DeviceError(f"{path.name}: its products are in several schemes, for which there is no fit; measure it")
    runtime = device.runtime_of(graph.model_format, scheme)
    if runtime is None:
        raise DeviceError(f"{path.name}: {device.refuses(graph.model_format, scheme)}")
    fit = find_fit(device, runtime, scheme, threads)
    return Forecast(graph, fit, fit.roofline.estimate(counts_of(graph.ops)))
