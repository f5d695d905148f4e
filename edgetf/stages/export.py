"""Export: write a torch checkpoint as ONNX or TFLite, and prove in the runtime that it gives the same logits."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from edgetf.config.stages import ExportConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.metrics import Floats
from edgetf.core.schemes import Format
from edgetf.formats import onnx, tflite
from edgetf.formats.write import write_graph
from edgetf.models.checkpoint import load_classifier
from edgetf.stages.context import Context
from edgetf.stages.deploy import finish
from edgetf.training.batches import encode_split
from edgetf.training.teacher import by_row, infer
from edgetf.validation.golden import ROWS


def run(
    config: ExportConfig, source: Artifact, context: Context, out: Path, model_format: Format
) -> tuple[Spec, float]:
    """Write one format; gives its spec and the seconds it took.

    Raises:
        ParityError: the converter or the runtime cannot take the model, or its logits differ.
    """
    started = time.monotonic()
    model = load_classifier(source.path, head=context.head)
    details = {**source.spec.details}
    for name in ("training", "before", "after"):
        details.pop(name, None)
    context.report(0, 2, f"writing {model_format}")
    lengths = tuple(sorted(config.seq_lens)) or (context.recipe.data.max_length,)
    match model_format:
        case "onnx":
            model_file = onnx.MODEL
            details |= {"opset": config.opset, "input_dtype": "int64", "lengths": None}
        case "tflite":
            model_file = tflite.MODEL
            details |= {"input_dtype": "int32", "lengths": lengths}
    file, rewrite, head = out / model_file, config.rewrite, context.head
    details["inputs"] = write_graph(model, model_format, file, config.opset, lengths, rewrite, head)
    context.report(1, 2, "checking it in its runtime")
    texts, pairs, torch_logits = _torch_golden(model, source, context)
    details = finish(out, source, model_format, "fp32", model_file, texts, pairs, torch_logits, details)
    spec = Spec(kind=model_format, model_file=model_file, params=source.spec.params, details=details)
    return spec, time.monotonic() - started


def _torch_golden(model: object, source: Artifact, context: Context) -> tuple[list[str], list[str] | None, Floats]:
    """The first golden rows, spread over the dev rows, with the checkpoint's logits (N, C)."""
    dev = context.data.dev
    count = min(ROWS, len(dev))
    chosen = dev.select([k * len(dev) // count for k in range(count)])
    encoder = context.encoder(source.path, source.spec.details["pad_id"])
    rows = encode_split(chosen, encoder)
    return chosen.texts, chosen.pairs, np.asarray(by_row(infer(model, rows, encoder), rows))
