"""A latency table: what an attention with h heads and a feed-forward of w neurons cost, in the runtime that will ship.

Small models of the same family and width are exported and quantized like the real one, and are timed in turns in one
process: with h heads and no neurons in their layers, w neurons and no heads, or neither. A block costs its model's
median less that of the model with neither, per layer; between measured sizes the table is straight. Where the export
cuts the last layer down to its first token (edgetf.models.first_token), that layer has a table of its own. A table is
kept for each machine, width, length, format and scheme.

Source: ZipLM (Kurtic et al. 2023), Kwon et al. 2022, who search over such tables.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.artifact import key_of
from edgetf.core.files import read_json, write_json
from edgetf.core.made import machine, made_with
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.models.families import family_of
from edgetf.models.families.family import Shape
from edgetf.models.shapes import shape_of
from edgetf.stages.deployment import Deployment
from edgetf.stages.probes import LayerSize, probe_model, time_models, write_model

LAYERS = 2  # of a probe: enough that its layers do not hide behind what is around them
GROWTH = 1.12  # between two widths to choose from: finer steps than the noise of a timing say nothing
MEASURED = 8  # sizes of a block that are measured: an export takes seconds, and all shall take a minute or two
Sizes = dict[int, float]


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of one attention by its heads and of one feed-forward by its neurons; `layer` of one without both.

    The `last_` ones are of the last layer with heads and of what is above it; `around` is of a model without layers.
    """

    heads: Sizes
    neurons: Sizes
    layer: float
    last_heads: Sizes
    last_neurons: Sizes
    last_layer: float
    around: float

    def predict(self, shape: Shape) -> float:
        """Milliseconds of a whole model."""
        last = max((index for index, layer in enumerate(shape.layers) if layer.heads), default=len(shape.layers) - 1)
        blocks = 0.0
        for index, layer in enumerate(shape.layers):
            heads, neurons = self.blocks(index >= last)
            blocks += heads[layer.heads] + sum(neurons[width] for width in layer.neurons)
        return self.around + self.layer * last + self.last_layer * (len(shape.layers) - last) + blocks

    def blocks(self, last: bool) -> tuple[Sizes, Sizes]:
        """What heads and neurons cost, in the last layer or below."""
        return (self.last_heads, self.last_neurons) if last else (self.heads, self.neurons)

    def fixed(self, layers: int) -> float:
        """What so many layers without heads and neurons cost."""
        return self.around + self.layer * (layers - 1) + self.last_layer


def widths(most: int, multiple: int) -> list[int]:
    """The feed-forward widths to choose from: multiples, growing by `GROWTH` or more, from 0 to all.

    >>> widths(512, 64), widths(100, 64)
    ([0, 64, 128, 192, 256, 320, 384, 448, 512], [0, 64, 100])
    """
    found = [0]
    for width in range(multiple, most, multiple):
        if width >= found[-1] * GROWTH:
            found.append(width)
    return [*found, most]


def all_widths(shape: Shape, multiple: int) -> list[int]:
    """Every width that a layer of this shape may have or get."""
    own = {width for layer in shape.layers for width in layer.neurons}
    return sorted(own | set(widths(max(own), multiple)))


def some(sizes: Sequence[int], count: int) -> list[int]:
    """At most `count` of the sizes above 0, the first and the last among them, evenly spread.

    >>> some(range(13), 4)
    [1, 5, 8, 12]
    """
    above = [size for size in sizes if size]
    places = np.linspace(0, len(above) - 1, min(count, len(above))).round().astype(int)
    return [above[place] for place in places]


def latency_table(config: dict[str, Any], deployment: Deployment, multiple: int, report: Report) -> LatencyTable:
    """The table of models like this config, measured on this machine, predicted of another, or read from the cache."""
    shape = shape_of(config)
    most_heads = max(layer.heads for layer in shape.layers)
    sizes = all_widths(shape, multiple)
    packages = ("torch", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "litert-torch")
    key = key_of(
        ["latency 3", config["model_type"], shape.hidden_size, shape.head_width, most_heads, sizes,
         deployment.record(), machine(), made_with(*packages)["versions"]]
    )  # fmt: skip
    path = cache_folder() / "latency-tables" / f"{key[:24]}.json"
    if not path.is_file():
        table = _measure(config, deployment, list(range(most_heads + 1)), sizes, report)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(table))
    record = read_json(path)
    return LatencyTable(**{name: _read_part(part) for name, part in record.items()})


def _read_part(part: Any) -> Any:
    """Sizes are words in JSON."""
    return {int(size): ms for size, ms in part.items()} if isinstance(part, dict) else part


def _measure(
    config: dict[str, Any], deployment: Deployment, heads: list[int], neurons: list[int], report: Report
) -> LatencyTable:
    """Export, quantize and time some sizes."""
    can_cut = family_of(config["model_type"]).post_norms is not None and deployment.head.reads_first_token
    cut = deployment.rewrite and can_cut
    some_heads, some_neurons = some(heads, MEASURED), some(neurons, MEASURED)
    few_heads, few_neurons = (some(heads, 3), some(neurons, 3)) if cut else ([], [])
    empty: list[LayerSize] = [(0, 0)] * LAYERS
    tail: list[LayerSize] = [(1, 0)] if cut else []
    probes = {
        "none": empty,
        "deeper": empty * 2,
        "tail": [*empty, *tail],
        **{f"heads {size}": [(size, 0)] * LAYERS + tail for size in some_heads},
        **{f"neurons {size}": [(0, size)] * LAYERS + tail for size in some_neurons},
        **{f"last heads {size}": [*empty, (size, 0)] for size in few_heads},
        **{f"last neurons {size}": [*empty, (1, size)] for size in few_neurons},
    }
    ms = _times(config, deployment, probes, report)
    parts = len(family_of(config["model_type"]).feed_forwards(config))

    def line(name: str, measured: list[int], sizes: list[int], base: str, share: int) -> Sizes:
        """What each size costs over the base; no size costs less than a smaller one."""
        costs = [max(0.0, (ms[f"{name} {size}"] - ms[base]) / share) for size in measured]
        rising = np.maximum.accumulate([0.0, *costs])
        return {size: float(np.interp(size, [0, *measured], rising)) for size in sizes}

    layer = max(0.0, (ms["deeper"] - ms["none"]) / LAYERS)
    all_heads = line("heads", some_heads, heads, "tail", LAYERS)
    all_neurons = line("neurons", some_neurons, neurons, "tail", LAYERS * parts)
    return LatencyTable(
        heads=all_heads,
        neurons=all_neurons,
        layer=layer,
        last_heads=line("last heads", few_heads, heads, "none", 1) if cut else all_heads,
        last_neurons=line("last neurons", few_neurons, neurons, "tail", parts) if cut else all_neurons,
        last_layer=0.0 if cut else layer,
        around=max(0.0, ms["none"] - LAYERS * layer),
    )


def _times(
    config: dict[str, Any], deployment: Deployment, probes: dict[str, list[LayerSize]], report: Report
) -> dict[str, float]:
    """Median milliseconds of every probe."""
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for number, layers in enumerate(probes.values()):
            report(number, len(probes), "latency table")
            probe = probe_model(config, layers, deployment.head)
            records.append(write_model(probe, deployment, Path(folder) / str(number)))
        return dict(zip(probes, time_models(records, deployment), strict=True))
