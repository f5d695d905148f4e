"""Quantize: an exported fp32 file becomes INT8, in the runtime's own scheme; then its answers are checked.

`w8a8_dynamic`: weights per channel in INT8, embeddings too; activations are quantized as they come, so that no
calibration rows are needed.
"""

from __future__ import annotations

import time
from pathlib import Path

from edgetf.core.artifact import Artifact, Spec
from edgetf.core.device import Scheme
from edgetf.core.errors import ParityError
from edgetf.formats import onnx, tflite
from edgetf.formats.onnx import GraphSummary
from edgetf.stages.context import Context
from edgetf.stages.deploy import finish
from edgetf.validation.golden import golden_of

LEAST_SHARE = 0.5  # a recipe that leaves more weights in float than this has failed in silence


def run(scheme: Scheme, source: Artifact, context: Context, out: Path) -> tuple[Spec, float]:
    """Quantize one exported file; gives its spec and the seconds it took.

    Raises:
        ParityError: little or nothing was quantized, or the logits point elsewhere.
    """
    started = time.monotonic()
    kind, model_file = source.spec.kind, source.spec.model_file
    context.report(0, 2, f"quantizing {kind}")
    match kind:
        case "onnx":
            onnx.quantize_dynamic_int8(source.model_path, out / model_file)
            summary = onnx.summarize_onnx(out / model_file)
        case "tflite":
            tflite.quantize_dynamic_int8(source.model_path, out / model_file)
            summary = tflite.summarize_tflite(out / model_file)
        case _:
            raise ParityError(f"quantize: got a {kind} artifact, allowed: onnx, tflite; export it first")
    share = quantized_share(summary, f"{kind}-{scheme}")
    context.report(1, 2, "checking it in its runtime")
    golden = golden_of(source)
    details = {**source.spec.details, "quantized_share": share}
    details = finish(out, source, kind, scheme, model_file, golden.texts, golden.pairs, golden.torch_logits, details)
    spec = Spec(kind=kind, model_file=model_file, params=source.spec.params, scheme=scheme, details=details)
    return spec, time.monotonic() - started


def quantized_share(summary: GraphSummary, name: str) -> float:
    """Share of the weighted operators that read INT8.

    Raises:
        ParityError: it is under a half.
    """
    share = summary.quantized / summary.quantizable if summary.quantizable else 0.0
    if share < LEAST_SHARE:
        raise ParityError(
            f"{name}: {summary.quantized} of {summary.quantizable} weighted operators were quantized; "
            "the scheme does not fit this graph"
        )
    return round(share, 4)
