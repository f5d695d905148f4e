"""Probe models: random models of a family in given shapes, written and timed as the real one will be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetf.core.device import load_device
from edgetf.core.quiet import quiet
from edgetf.core.schemes import Format
from edgetf.core.support import HERE
from edgetf.formats.quantization import Quantization
from edgetf.formats.quantize import quantize_file
from edgetf.formats.write import write_graph
from edgetf.models.families import family_of
from edgetf.models.heads import CLASSIFIER, Head, build
from edgetf.models.shapes import RECORD, shape_of
from edgetf.models.slicing import feed_forwards_of, layers_of, narrow_feed_forward, narrow_heads, narrow_hidden
from edgetf.predict.forecast import forecast
from edgetf.stages.deployment import Deployment
from edgetf.targets.local import ask_runner

WORDS = 512
SAMPLES = 40
OPSET = 20
SUFFIX: dict[Format, str] = {"onnx": ".onnx", "tflite": ".tflite"}
LayerSize = tuple[int, int]  # heads, and neurons of each feed-forward


def probe_model(config: dict[str, Any], layers: Sequence[LayerSize], head: Head = CLASSIFIER) -> Any:
    """A random model of the family with a small vocabulary and these layers."""
    with quiet():
        from transformers import AutoConfig

    family, shape = family_of(config["model_type"]), shape_of(config)
    record = {name: value for name, value in config.items() if name not in (RECORD, "model_type", "architectures")}
    record |= {family.num_hidden_layers: len(layers), "vocab_size": WORDS}
    record[family.intermediate_size] = max(1, *(neurons for _, neurons in layers))
    with quiet():
        model = build(AutoConfig.for_model(config["model_type"], **record), head).eval()
    with torch.no_grad():
        for layer, (heads, neurons) in zip(layers_of(model), layers, strict=True):
            narrow_heads(model, layer, range(heads))
            for part in feed_forwards_of(model):
                narrow_feed_forward(layer, part, torch.arange(neurons))
        hidden = model.get_submodule(family.position_embedding).embedding_dim
        if shape.hidden_size != hidden:
            narrow_hidden(model, torch.arange(shape.hidden_size))
    return model


def write_model(model: Any, deployment: Deployment, folder: Path) -> dict[str, Any]:
    """Export and quantize into `folder` as the stages do; gives what the runner needs to know of it."""
    folder.mkdir()
    suffix = SUFFIX[deployment.model_format]
    exported = folder / f"exported{suffix}"
    lengths = (deployment.seq_len,)
    write_graph(model, deployment.model_format, exported, OPSET, lengths, deployment.rewrite, deployment.head)
    quantized = exported
    if deployment.timed_scheme != "fp32" and any(_has_weights(layer) for layer in layers_of(model)):
        quantized = folder / f"quantized{suffix}"
        quantize_file(deployment.model_format, exported, quantized, Quantization(deployment.timed_scheme))
    return {
        "name": folder.name,
        "folder": str(folder),
        "model_file": quantized.name,
        "backend": HERE[deployment.model_format],
        "max_length": deployment.seq_len,
    }


def _has_weights(layer: torch.nn.Module) -> bool:
    """Whether a layer still multiplies by a matrix; without one there is nothing to quantize."""
    return any(isinstance(module, torch.nn.Linear) for module in layer.modules())


def time_models(records: list[dict[str, Any]], deployment: Deployment) -> list[float]:
    """Median milliseconds of the models, in turns in one process; predicted ones of a device that is away."""
    if deployment.away is not None:
        device = load_device(deployment.away)
        files = [Path(record["folder"]) / record["model_file"] for record in records]
        return [forecast(file, device, deployment.seq_len, deployment.threads).estimate.ms for file in files]
    request = {"do": "bench", "models": records, "text": "", "samples": SAMPLES,
               "threads": deployment.threads, "seq_len": deployment.seq_len}  # fmt: skip
    answer = ask_runner(request)
    return [float(np.median(samples)) for samples in answer["samples_ms"]]
