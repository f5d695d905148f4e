"""Validate one variant on one device: parity, accuracy against the teacher, latency beside it, budgets, a verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.artifact import Artifact, open_verified
from edgetf.core.budget import TIMED, Verdict, check_budget, overall
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.core.metrics import Metric
from edgetf.core.support import HERE
from edgetf.predict.forecast import forecast
from edgetf.runtime.model import Model
from edgetf.targets import side
from edgetf.targets.target import Target, Tick, open_target
from edgetf.validation import latency_gate
from edgetf.validation.evaluation import Evaluation, read_evaluation
from edgetf.validation.fallback import fallback_problem, provider_share
from edgetf.validation.golden import GOLDEN, deployable_model, golden_of, runtime_logits, same_file_parity
from edgetf.validation.timings import timing_of

MIB = 1 << 20
AWAY = frozenset(("not_measured", "predicted"))  # of a row: nothing was run on the device


@dataclass(frozen=True)
class Settings:
    """How latency is taken: at `seq_len` tokens (None: the longest that the model takes), and at `more_lens` too."""

    threads: int = 1
    samples: int = 60
    seq_len: int | None = None
    more_lens: tuple[int, ...] = ()
    seconds: float = 5.0  # for each model, to go on until its median is known to 1 %


APART = {  # backends whose files are not timed beside the reference
    side.BACKEND: f"{side.BACKEND} runs in another process than the teacher's fp32 ONNX file",
    "torch_cuda": "torch_cuda runs on a GPU, the teacher's fp32 ONNX file on the CPU",
}
NOT_THERE = "{} has no runtime for the teacher's fp32 ONNX file"
SIMULATED = "this processor computes the scheme in float, so that its milliseconds say nothing"
EMULATED = "an emulated processor has no milliseconds; bound instructions_ratio instead"
UNCOUNTED = "instructions are counted on emulated devices only"
NOTHING_TIMED = "an emulated processor has no milliseconds, and the way to this one counts no instructions"
NO_REFERENCE = "the teacher's fp32 ONNX folder is not beside this one; give it with --reference"


@dataclass
class DeviceRow:
    """One variant on one device, as in the `devices` list of a report; None is "not measured"."""

    device: str
    how: str = "measured"
    backend: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    seq_len: int | None = None
    latency_p50_ms: float | None = None
    latency_p50_ci95_ms: list[float] | None = None
    latency_p90_ms: float | None = None
    latency_p99_ms: float | None = None
    n: int = 0
    samples_ms: list[float] = field(default_factory=list)
    reference: dict[str, Any] | None = None
    speedup: float | None = None
    speedup_ci95: list[float] | None = None
    alone: str | None = None  # why it was timed without its reference
    trusted: bool | None = None
    doubts: list[str] = field(default_factory=list)  # why it is not trusted, each with its remedy
    retries: list[dict[str, Any]] = field(default_factory=list)  # why it was timed again, and what each run gave
    lengths: list[dict[str, Any]] = field(default_factory=list)  # the same at other numbers of tokens
    load_ms: float | None = None
    first_ms: float | None = None
    peak_rss_bytes: int | None = None
    instructions: int | None = None  # of one inference; these five where the processor is emulated
    instructions_by_class: dict[str, int] = field(default_factory=dict)
    reference_instructions: int | None = None
    instructions_ratio: float | None = None  # this file's / the reference's
    parity: dict[str, Any] = field(default_factory=dict)  # with the answers of this machine
    predicted: dict[str, Any] | None = None  # latency_p50_ms and interval95_ms by the device's fit, where it is away
    machine: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)  # clock, temperature, other work … while it was timed
    metrics: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    size_bytes: int | None = None
    reference_size_bytes: int | None = None
    measured_at: str | None = None  # ISO 8601, UTC
    seconds: float | None = None  # that validating took
    problems: list[str] = field(default_factory=list)  # what makes the result wrong, whatever the budget
    verdict: Verdict = "not_measured"
    why: list[str] = field(default_factory=list)

    def unmeasured(self) -> list[str]:
        """Why the device, or else a bound of the budget, was not measured."""
        if self.how == "not_measured":
            return self.why
        return [check["why"] for check in self.checks if check["verdict"] == "not_measured"]


def find_reference(artifact: Artifact, given: Path | None = None) -> Artifact | None:
    """The teacher's fp32 ONNX folder that the variant names, or that the caller gives; None where it is not here.

    Raises:
        ArtifactError: a folder was given and is not an artifact, or its files have changed.
    """
    if given is not None:
        return open_verified(given)
    named = artifact.spec.details.get("reference")
    folder = artifact.path / named if named else None
    return open_verified(folder.resolve()) if folder is not None and folder.is_dir() else None


def validate(
    artifact: Artifact,
    device: DeviceProfile,
    reference: Artifact | None,
    budget: Mapping[str, float],
    settings: Settings,
    tick: Tick | None = None,
) -> DeviceRow:
    """Measure a variant and judge it.

    Raises:
        ArtifactError, DeviceError, ParityError: the file cannot be opened or run at all.
    """
    model = deployable_model(artifact, device.runtime_of(artifact.spec.kind))  # type: ignore[arg-type]
    model = replace(model, provider=device.provider)
    row = DeviceRow(device=device.name, threads=settings.threads)
    unavailable = device.refuses(artifact.spec.kind, artifact.spec.scheme)  # type: ignore[arg-type]
    try:
        if unavailable is not None:
            raise DeviceError(unavailable)
        target = open_target(device)
        row.how = target.how
        row.measured_at, started = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
        _measure(row, model, artifact, device, reference, budget, settings, target, tick)
        row.seconds = round(time.monotonic() - started, 2)
    except DeviceError as error:
        row = DeviceRow(device=device.name, threads=settings.threads, how="not_measured")
        row.why = [f"not measured: {error}"]
        if unavailable is None:
            _predict(row, artifact.model_path, device, settings.seq_len or model.max_length)
    return judged(row, budget)


def _predict(row: DeviceRow, path: Path, device: DeviceProfile, seq_len: int) -> None:
    """What the device would take by its fit, if it has one."""
    with suppress(ArtifactError, DeviceError):  # no fit, or no package to read the file with
        found = forecast(path, device, seq_len, row.threads)
        row.how, row.seq_len, row.predicted = "predicted", found.graph.seq_len, found.to_json()


def _measure(
    row: DeviceRow, model: Model, artifact: Artifact, device: DeviceProfile, reference: Artifact | None,
    budget: Mapping[str, float], settings: Settings, target: Target, tick: Tick | None,
) -> None:  # fmt: skip
    """Fill the row.

    Raises:
        ArtifactError, ParityError: the file cannot be opened or run at all.
        DeviceError: the device is not available, or went away.
    """
    row.size_bytes = artifact.manifest.size_bytes
    row.reference_size_bytes = reference.manifest.size_bytes if reference else None
    if target.how == "emulated":
        from edgetf.validation.emulated import measure_emulated

        measure_emulated(row, artifact, model, target, reference, settings, tick)
        return
    row.problems = _check_parity(row, artifact, model, settings, target)
    if reference is not None:
        details = reference.spec.details
        rows = read_evaluation(reference.path, model.task, details.get("label_names", ()))
        row.metrics = [metric.to_json() for metric in _measure_accuracy(row, model, rows, settings, target, tick)]
        problem = rows.baseline_problem()
        row.problems += [problem] if problem else []
    support = device.support(artifact.spec.kind, artifact.spec.scheme)  # type: ignore[arg-type]
    if support is not None and support.how == "simulated":
        row.how = "simulated"
    else:
        row.alone = _apart(model, device) if reference is not None else None
        _measure_latency(row, model, artifact, None if row.alone else reference, budget, settings, target)


def _check_parity(row: DeviceRow, artifact: Artifact, model: Model, settings: Settings, target: Target) -> list[str]:
    if not (artifact.path / GOLDEN).is_file() and artifact.spec.kind == "torch":
        return []  # a checkpoint has none; its exported files hold what it answers
    golden = golden_of(artifact)
    answer = runtime_logits(model, golden.texts, golden.pairs, settings.threads, target.ask)
    _take_memory(row, answer)
    row.backend = answer["backend"]
    problem = same_file_parity(artifact.spec.scheme, golden.logits, np.asarray(answer["logits"]))
    return [each for each in (problem, fallback_problem(row.backend)) if each]


def _take_memory(row: DeviceRow, answer: dict[str, Any]) -> None:
    """What the runner says of a process that held this model alone."""
    row.load_ms, row.first_ms = round(answer["load_ms"], 2), round(answer["first_ms"], 3)
    row.peak_rss_bytes = answer["peak_rss_bytes"]


def _measure_accuracy(
    row: DeviceRow, model: Model, rows: Evaluation, settings: Settings, target: Target, tick: Tick | None
) -> list[Metric]:
    request = {
        "do": "classify",
        "model": model.to_json(),
        "threads": settings.threads,
        "texts": rows.texts,
        "pairs": rows.pairs,
    }
    answer = target.ask(request, tick)
    logits = np.asarray(answer["logits"])
    if not rows.fits(logits):
        raise ArtifactError(f"{model.name}: {logits.shape[1]} classes, its teacher has {rows.classes}")
    _take_memory(row, answer)
    return rows.compare(logits)


def _apart(model: Model, device: DeviceProfile) -> str | None:
    """Why the teacher's fp32 ONNX file cannot be timed in the same process there, or None."""
    if model.backend in APART:
        return APART[model.backend]
    return None if device.runtime_of("onnx") == HERE["onnx"] else NOT_THERE.format(device.name)


def _measure_latency(
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
    reasons = latency_gate.reasons_to_retry(budget, _readings(row), row.doubts)
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


def _readings(row: DeviceRow) -> dict[str, latency_gate.Reading]:
    """The timed values of a row, with their intervals; none where nothing was timed on the device itself."""
    values = {key: getattr(row, key) if row.how == "measured" else None for key in TIMED}
    return latency_gate.readings(row.samples_ms, values, row.speedup_ci95)


def _reasons(row: DeviceRow) -> dict[str, str]:
    """Why a row has no value for a bound, where it is not for want of a reference."""
    reasons = {"speedup": row.alone} if row.alone else {}
    untimed = {"simulated": SIMULATED, "emulated": EMULATED}.get(row.how)
    if untimed is not None:
        reasons |= dict.fromkeys(TIMED, untimed)
    if row.how == "emulated":
        reasons["peak_rss_mib"] = "memory under emulation includes the emulator's"
    if row.instructions is None:
        reasons["instructions_ratio"] = UNCOUNTED
    return reasons


def judged(row: DeviceRow, budget: Mapping[str, float]) -> DeviceRow:
    """The row with its checks, verdict and reasons for this budget; measures nothing."""
    if row.how in AWAY:
        reason = row.why[0].removeprefix("not measured: ")
        said = _predicted(row)
        away = check_budget(budget, {}, reason, {"latency_p50_ms": said} if said else {})
        return replace(row, checks=[vars(check) for check in away], why=[row.why[0], *([said] if said else [])])
    values: dict[str, float | None] = {record["name"]: record["value"] for record in row.metrics}
    size, reference = row.size_bytes, row.reference_size_bytes
    counted, of = row.instructions, row.reference_instructions
    values |= {
        "instructions_ratio": counted / of if counted and of else None,
        "provider_share": provider_share(row.backend),
        "size_mib": size / MIB if size else None,
        "size_ratio": reference / size if reference and size else None,
        "peak_rss_mib": row.peak_rss_bytes / MIB if row.peak_rss_bytes else None,
    }
    timed = latency_gate.timed_checks(budget, _readings(row), row.doubts, len(row.retries))
    strict = check_budget(budget, values, NO_REFERENCE, _reasons(row))
    checks = [timed.get(check.key, check) for check in strict]
    why = row.problems + [check.why for check in checks]
    if row.how == "simulated":
        why.append(f"simulated: {SIMULATED}")
    elif row.instructions is not None:
        why.append(_counted(row))
    elif row.how == "emulated":
        why.append(f"emulated: {NOTHING_TIMED}")
    elif row.alone and "speedup" not in budget:
        why.append(f"speedup: not measured ({row.alone})")
    why += [f"untrusted: {doubt}" for doubt in row.doubts]
    if row.speedup is not None and row.speedup < 1:
        why.append(f"slower: it runs at {row.speedup:.2f} times the speed of its teacher's fp32 file")
    verdict: Verdict = "fail" if row.problems else overall([check.verdict for check in checks])
    return replace(row, checks=[vars(check) for check in checks], why=why, verdict=verdict)


def _counted(row: DeviceRow) -> str:
    """What was counted, in a line."""
    said = f"emulated: {(row.instructions or 0) / 1e6:.1f} million instructions an inference of {row.seq_len} tokens"
    return said if row.instructions_ratio is None else f"{said}, {row.instructions_ratio:.2f} times the reference's"


def _predicted(row: DeviceRow) -> str | None:
    """What was predicted of a row, in words."""
    if row.predicted is None:
        return None
    low, high = row.predicted["interval95_ms"]
    return f"predicted {row.predicted['latency_p50_ms']:.4g} ms (95 %: {low:.4g} to {high:.4g}), not measured"


def row_from_json(record: dict[str, Any]) -> DeviceRow:
    """A row as it was written."""
    return DeviceRow(**record)
