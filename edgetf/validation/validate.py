"""Validate one variant on one device: parity, accuracy against the teacher, latency beside it, budgets, a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.artifact import Artifact, open_verified
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ArtifactError
from edgetf.core.metrics import Metric
from edgetf.predict.forecast import forecast
from edgetf.runtime.model import Model
from edgetf.targets.target import Target, Tick
from edgetf.validation.attempt import attempt
from edgetf.validation.evaluation import Evaluation, read_evaluation
from edgetf.validation.fallback import fallback_problem
from edgetf.validation.golden import GOLDEN, deployable_model, golden_of, runtime_logits, same_file_parity
from edgetf.validation.latency import apart, measure_latency
from edgetf.validation.row import DeviceRow, Settings


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

    def measure(row: DeviceRow, target: Target) -> None:
        _measure(row, model, artifact, device, reference, budget, settings, target, tick)

    def predict(row: DeviceRow) -> None:
        found = forecast(artifact.model_path, device, settings.seq_len or model.max_length, row.threads)
        row.how, row.seq_len, row.predicted = "predicted", found.graph.seq_len, found.to_json()

    return attempt(artifact, device, settings.threads, budget, measure, predict)


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
        row.alone = apart(model.backend, device, reference) if reference is not None else None
        measure_latency(row, model, artifact, None if row.alone else reference, budget, settings, target)


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
