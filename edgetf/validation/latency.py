"""Time a variant in turns with its reference, once more where the first run leaves a bound open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from edgetf.core.artifact import Artifact
from edgetf.core.device import DeviceProfile
from edgetf.core.files import weights_beside
from edgetf.core.support import HERE
from edgetf.runtime.model import Model
from edgetf.targets import side
from edgetf.targets.target import Target
from edgetf.validation import latency_gate
from edgetf.validation.golden import GOLDEN, deployable_model, golden_of
from edgetf.validation.judge import readings_of
from edgetf.validation.row import DeviceRow, Settings
from edgetf.validation.timings import timing_of

APART = {  # backends whose files are not timed beside the reference
    side.BACKEND: f"{side.BACKEND} runs in another process than the teacher's fp32 ONNX file",
    "torch_cuda": "torch_cuda runs on a GPU, the teacher's fp32 ONNX file on the CPU",
}


def apart(backend: str, device: DeviceProfile, reference: Artifact) -> str | None:
    """Why the teacher's fp32 ONNX file cannot be timed in the process of a backend's file there, or None."""
    if backend in APART:
        return APART[backend]
    if device.target != "local" and weights_beside(reference.model_path).is_file():
        return "the teacher's fp32 ONNX file is over 2 GB, and stays here"
    if device.runtime_of("onnx") != HERE["onnx"]:
        return f"{device.name} has no runtime for the teacher's fp32 ONNX file"
    return None


def measure_latency(
    row: DeviceRow,
    model: Model,
    artifact: Artifact,
    reference: Artifact | None,
    budget: Mapping[str, float],
    settings: Settings,
    target: Target,
) -> None:
    """Time the variant in turns with its reference; once more where that leaves a bound of the budget open."""
    models = [model]
    if reference is not None:
        other = deployable_model(reference)
        models.append(replace(other, provider=model.provider if other.backend == model.backend else None))
    request = {
        "do": "bench",
        "models": [each.to_json() for each in models],
        "threads": settings.threads,
        "samples": settings.samples,
        "seconds": settings.seconds,
        "text": max(golden_of(artifact).texts, key=len) if (artifact.path / GOLDEN).is_file() else "",
    }
    request["seq_len"] = settings.seq_len or model.max_length
    first = target.ask(request)
    _take_timings(row, first, reference)
    reasons = latency_gate.reasons_to_retry(budget, readings_of(row), row.doubts)
    if reasons:
        samples = latency_gate.samples_of_retry(row.n, budget)
        second = target.ask({**request, "samples": samples, "seconds": 0.0})  # so many, however long they take
        runs = [replace(row), replace(row)]
        _take_timings(runs[1], second, reference)
        kept = latency_gate.run_to_keep(runs[0].trusted, runs[1].trusted)
        both = latency_gate.pooled(first, second)
        _take_timings(row, {"first": first, "second": second, "both": both}[kept], reference)
        row.retries.append({"why": reasons, "kept": kept, "runs": [_run_of(run) for run in runs]})
    more = {*settings.more_lens, *(artifact.spec.details.get("lengths") or ())} - {row.seq_len}
    row.lengths = [asdict(timing_of(target.ask({**request, "seq_len": length}))) for length in sorted(more)]


def _run_of(row: DeviceRow) -> dict[str, Any]:
    """What a retry keeps of each run."""
    return {name: getattr(row, name) for name in ("n", "latency_p50_ms", "speedup", "speedup_ci95", "doubts")}


def _take_timings(row: DeviceRow, answer: dict[str, Any], reference: Artifact | None) -> None:
    """Put down what a runner timed: the variant first, then its reference."""
    taken = timing_of(answer)
    row.backend, row.machine = answer["backends"][0], {**answer["machine"], "load_average": answer["load_average"]}
    row.conditions = answer["conditions"]
    row.seq_len, row.n = taken.seq_len, taken.n
    row.samples_ms = [round(value, 4) for value in answer["samples_ms"][0]]
    row.latency_p50_ms, row.latency_p90_ms = taken.latency_p50_ms, taken.latency_p90_ms
    row.latency_p99_ms, row.latency_p50_ci95_ms = taken.latency_p99_ms, taken.latency_p50_ci95_ms
    row.doubts, row.trusted = taken.doubts, not taken.doubts
    if reference is not None:
        others = {"latency_p50_ms": taken.reference_p50_ms, "n": len(answer["samples_ms"][1])}
        row.reference = {"name": reference.manifest.name, **others}
        row.speedup, row.speedup_ci95 = taken.speedup, taken.speedup_ci95
