"""A latency table: what an attention with h heads and a feed-forward of w neurons cost, in the runtime that will ship.

Small models of the same family and width are exported and quantized like the real one, with h heads and no neurons, w
neurons and no heads, or neither, and are timed in turns in one process. A block costs its model's median less that of
the model with neither, per layer. A table is kept for each machine, width, length, format and scheme.

Source: ZipLM (Kurtic et al. 2023), Kwon et al. 2022, who search over such tables.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetf.core.artifact import key_of
from edgetf.core.device import RUNTIME_OF
from edgetf.core.files import read_json, write_json
from edgetf.core.made import machine, made_with
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.core.quiet import quiet
from edgetf.formats import onnx, tflite
from edgetf.models.families import family_of
from edgetf.models.families.family import Shape
from edgetf.models.shapes import RECORD, shape_of
from edgetf.models.slicing import feed_forwards_of, layers_of, narrow_feed_forward, narrow_heads, narrow_hidden
from edgetf.stages.deployment import Deployment
from edgetf.targets.local import ask_runner

LAYERS = 2  # of a timed model: enough that its layers do not hide behind what is around them
WORDS = 512
SAMPLES = 40
GROWTH = 1.12  # between two measured widths: finer steps than the noise of a timing say nothing


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of one attention by its heads and of one feed-forward by its neurons; `layer` of one without both.

    `around` is what is left of a model without layers.
    """

    heads: dict[int, float]
    neurons: dict[int, float]
    layer: float
    around: float

    def predict(self, shape: Shape) -> float:
        """Milliseconds of a whole model."""
        blocks = [self.heads[layer.heads] + sum(self.neurons[width] for width in layer.neurons)
                  for layer in shape.layers]  # fmt: skip
        return self.around + len(shape.layers) * self.layer + sum(blocks)


def widths(most: int, multiple: int) -> list[int]:
    """The feed-forward widths worth measuring: multiples, growing by `GROWTH` or more, from 0 to all.

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


def latency_table(config: dict[str, Any], deployment: Deployment, multiple: int, report: Report) -> LatencyTable:
    """The table of models like this config, measured on this machine or read from the cache."""
    shape = shape_of(config)
    most_heads = max(layer.heads for layer in shape.layers)
    sizes = all_widths(shape, multiple)
    packages = ("torch", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "litert-torch")
    key = key_of(
        ["latency", config["model_type"], shape.hidden_size, shape.head_width, most_heads, sizes, asdict(deployment),
         machine(), made_with(*packages)["versions"]]
    )  # fmt: skip
    path = cache_folder() / "latency-tables" / f"{key[:24]}.json"
    if not path.is_file():
        table = _measure(config, deployment, most_heads, sizes, report)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(table))
    record = read_json(path)
    heads, neurons = ({int(k): ms for k, ms in record[part].items()} for part in ("heads", "neurons"))
    return LatencyTable(heads, neurons, record["layer"], record["around"])


def _measure(
    config: dict[str, Any], deployment: Deployment, most_heads: int, sizes: Sequence[int], report: Report
) -> LatencyTable:
    """Export, quantize and time every size."""
    wanted = [(heads, 0) for heads in range(most_heads + 1)] + [(0, width) for width in sizes[1:]]
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for number, (heads, neurons) in enumerate([*wanted, (0, 0)]):
            report(number, len(wanted) + 1, "latency table")
            layers = LAYERS if number < len(wanted) else 2 * LAYERS  # the last one tells a layer from what is around
            model = _timed_model(config, layers, heads, neurons)
            records.append(write_model(model, deployment, Path(folder) / str(number)))
        medians = time_models(records, deployment)
    none, deeper = medians[0], medians[-1]
    layer = max(0.0, (deeper - none) / LAYERS)
    parts = len(family_of(config["model_type"]).feed_forwards(config))
    extra = {size: max(0.0, (ms - none) / LAYERS) for size, ms in zip(wanted, medians[:-1], strict=True)}
    return LatencyTable(
        heads={heads: extra[(heads, 0)] for heads in range(most_heads + 1)},
        neurons={width: extra[(0, width)] / parts if width else 0.0 for width in sizes},
        layer=layer,
        around=max(0.0, none - LAYERS * layer),
    )


def _timed_model(config: dict[str, Any], layers: int, heads: int, neurons: int) -> Any:
    """A random model of the family with so many heads and neurons in each of its few layers, and a small vocabulary."""
    with quiet():
        from transformers import AutoConfig, AutoModelForSequenceClassification

    family, shape = family_of(config["model_type"]), shape_of(config)
    record = {name: value for name, value in config.items() if name not in (RECORD, "model_type", "architectures")}
    record |= {family.num_hidden_layers: layers, "vocab_size": WORDS}
    record[family.intermediate_size] = max(neurons, 1)
    with quiet():
        model = AutoModelForSequenceClassification.from_config(
            AutoConfig.for_model(config["model_type"], **record), attn_implementation="eager"
        ).eval()
    for layer in layers_of(model):
        narrow_heads(model, layer, range(heads))
        if neurons == 0:
            for part in feed_forwards_of(model):
                narrow_feed_forward(layer, part, torch.arange(0))
    hidden = model.get_submodule(family.position_embedding).embedding_dim
    if shape.hidden_size != hidden:
        narrow_hidden(model, torch.arange(shape.hidden_size))
    return model


def write_model(model: Any, deployment: Deployment, folder: Path) -> dict[str, Any]:
    """Export and quantize into `folder`; gives what the runner needs to know of it."""
    folder.mkdir()
    exported = folder / "exported"
    match deployment.model_format:
        case "onnx":
            onnx.export_onnx(model, exported, 20)
            quantize = onnx.quantize_dynamic_int8
        case "tflite":
            tflite.export_tflite(model, exported, (deployment.seq_len,))
            quantize = tflite.quantize_dynamic_int8
    quantized = exported
    if deployment.scheme != "fp32" and any(layer_has_weights(layer) for layer in layers_of(model)):
        quantized = folder / "quantized"
        quantize(exported, quantized)
    return runner_record(folder, quantized.name, deployment)


def layer_has_weights(layer: torch.nn.Module) -> bool:
    """Whether a layer still multiplies by a matrix; without one there is nothing to quantize."""
    return any(isinstance(module, torch.nn.Linear) for module in layer.modules())


def runner_record(folder: Path, model_file: str, deployment: Deployment) -> dict[str, Any]:
    """A model as the runner's `bench` takes it."""
    return {
        "name": folder.name,
        "folder": str(folder),
        "model_file": model_file,
        "backend": RUNTIME_OF[deployment.model_format],
        "max_length": deployment.seq_len,
    }


def time_models(records: list[dict[str, Any]], deployment: Deployment) -> list[float]:
    """Median milliseconds of the models, in turns in one process."""
    request = {"do": "bench", "models": records, "text": "", "samples": SAMPLES,
               "threads": deployment.threads, "seq_len": deployment.seq_len}  # fmt: skip
    answer = ask_runner(request)
    return [float(np.median(samples)) for samples in answer["samples_ms"]]
