"""Quantize: an exported fp32 file becomes one of another scheme; then its answers are checked in the runtime."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from edgetf.core.artifact import Artifact, Spec
from edgetf.core.errors import ConfigError, ParityError
from edgetf.core.schemes import FORMATS, Scheme
from edgetf.formats.quantization import Feeds, GraphSummary, Quantization
from edgetf.formats.quantize import quantize_file, stored_errors, summarize_file
from edgetf.runtime.model import Model
from edgetf.stages.context import Context
from edgetf.stages.deploy import deployed, finish
from edgetf.validation.golden import Golden, golden_of, runtime_shifts

SHIFT = 1e-2  # standard deviations of the answers; docs/quantization.md says what was measured
SHIFT_DYNAMIC = 0.5  # where one scale is taken for all that is in a batch, padding too
WEIGHT_ERROR = 0.3  # of its norm; int4 in blocks of 32 changes a weight by about 0.1
WEIGHT_ERROR_TENSOR = 0.6  # where a whole tensor has one scale, a few large weights change it by up to 0.4
LEAST_SHARE = 0.5  # a recipe that leaves more weights in float than this has failed in silence


def run(
    how: Quantization, source: Artifact, context: Context, out: Path, feeds: Feeds | None = None
) -> tuple[Spec, float]:
    """Quantize one exported file; gives its spec and the seconds it took. `feeds` are the calibration rows.

    Raises:
        ConfigError: a pattern of `keep_float` fits nothing.
        ParityError: little or nothing was quantized, it takes or gives other types than before, or the logits differ.
    """
    started = time.monotonic()
    model_format = next((known for known in FORMATS if known == source.spec.kind), None)
    if model_format is None:
        raise ParityError(
            f"quantize: got a {source.spec.kind} artifact, allowed: {', '.join(FORMATS)}; export it first"
        )
    name, model_file = f"{model_format}-{how.scheme}", source.spec.model_file
    context.report(0, 2, f"quantizing {model_format}")
    quantize_file(model_format, source.model_path, out / model_file, how, feeds)
    plain, summary = (summarize_file(model_format, path) for path in (source.model_path, out / model_file))
    kept = kept_in_float(how.keep_float, plain.weighted)
    found = {
        "quantized_share": quantized_share(summary, name, kept) if how.scheme != "fp16" else None,
        "quantization": how.record(),
        "part_bytes": summary.part_bytes,
    }
    hold_types(summary, plain, name)
    if how.writer == "onnxruntime":  # NNCF gives what it stores other names
        errors = stored_errors(model_format, source.model_path, out / model_file)
        hold_weights(errors, name, WEIGHT_ERROR_TENSOR if how.granularity == "per_tensor" else WEIGHT_ERROR)
    context.report(1, 2, "checking it in its runtime")
    golden, details = golden_of(source), {**source.spec.details, **found}
    details = finish(
        out, source, model_format, how.scheme, model_file, golden.texts, golden.pairs, golden.torch_logits, details
    )
    details["shifts"] = hold_shifts(deployed(out, model_format, how.scheme, model_file, details), golden, how.scheme)
    spec = Spec(model_format, model_file, source.spec.params, scheme=how.scheme, details=details)
    return spec, time.monotonic() - started


def kept_in_float(patterns: Sequence[str], paths: Sequence[str]) -> int:
    """How many of the weighted operators, named after their modules, stay in float.

    Raises:
        ConfigError: a pattern fits none of them, so that what it should spare would be quantized.
    """
    idle = [pattern for pattern in patterns if not any(fnmatch(path, pattern) for path in paths)]
    if idle:
        raise ConfigError(
            f"quantize.keep_float: {', '.join(idle)} fits no operator with weights; allowed: patterns of names such as "
            f"{', '.join(paths[:2])}, … {paths[-1]}"
        )
    return sum(any(fnmatch(path, pattern) for pattern in patterns) for path in paths)


def quantized_share(summary: GraphSummary, name: str, kept: int = 0) -> float:
    """Share of the weighted operators that read quantized weights, where so many were to be `kept` in float.

    Raises:
        ParityError: it is under a half of those that were not.
    """
    share = summary.quantized / summary.quantizable if summary.quantizable else 0.0
    if not summary.quantized or summary.quantized < LEAST_SHARE * (summary.quantizable - kept):
        raise ParityError(
            f"{name}: {summary.quantized} of {summary.quantizable} weighted operators were quantized; "
            "the scheme does not fit this graph"
        )
    return round(share, 4)


def hold_types(quantized: GraphSummary, plain: GraphSummary, name: str) -> None:
    """Refuse a file that an app would have to feed or read in another way than the one it was made from.

    Raises:
        ParityError: an input or an output has another type, as where raw int8 logits come out.
    """
    for side, before, after in (
        ("input", plain.inputs, quantized.inputs),
        ("output", plain.outputs, quantized.outputs),
    ):
        for value, kind in before.items():
            if after.get(value) != kind:
                raise ParityError(
                    f"{name}: its {side} {value} is {after.get(value, 'gone')}, allowed: {kind}, as in the fp32 file"
                )


def hold_weights(errors: Mapping[str, float], name: str, most: float = WEIGHT_ERROR) -> None:
    """Refuse a file whose weights are not those of the model, whatever its answers.

    Raises:
        ParityError: one has changed by more than `most` of itself.
    """
    worst = max(errors, key=lambda weight: errors[weight], default=None)
    if worst is not None and not errors[worst] <= most:
        raise ParityError(
            f"{name}: {worst}, made float again, is {errors[worst]:.2g} of its size away from the weight of the model, "
            f"allowed: {most}; a scale of this file is broken"
        )


def hold_shifts(model: Model, golden: Golden, scheme: Scheme) -> dict[str, float | None]:
    """How far answers move with batch mates and padding, in standard deviations of the answers; see `Shifts`.

    Raises:
        ParityError: further than is allowed for the scheme.
    """
    most = SHIFT_DYNAMIC if scheme == "w8a8_dynamic" else SHIFT
    found: dict[str, float | None] = {}
    for name, moved in runtime_shifts(model, golden.texts, golden.pairs).items():
        found[name] = moved
        if moved is not None and not moved <= most:
            raise ParityError(
                f"{model.name}: answers move by {moved:.2g} standard deviations with their {name}, allowed: {most:g}; "
                "an app that runs texts in other batches would say something else"
            )
    return found
