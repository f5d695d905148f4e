"""The one document of a run, as `compress --json` prints it and `report.json` keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgetf.config.recipe import Recipe
from edgetf.core.artifact import Artifact
from edgetf.core.budget import Verdict
from edgetf.core.task_names import CLASSIFICATION
from edgetf.tasks import task_of
from edgetf.tasks.task import Task
from edgetf.validation.validate import DeviceRow, judged, row_from_json

SCHEMA = 1
StageArtifacts = tuple[str, list[Artifact], bool, Artifact | None]


def _host(artifact: Artifact | None) -> dict[str, Any] | None:
    """The first device row of a delivered artifact, where it was measured."""
    from edgetf.core.files import read_json

    path = artifact.path / "validation.json" if artifact else None
    rows = read_json(path) if path is not None and path.is_file() else []
    return rows[0] if rows and rows[0]["how"] != "not_measured" else None


def document(
    recipe: Recipe,
    run: Path,
    seconds: float,
    made: dict[str, Any],
    reference: Artifact | None,
    stages: Sequence[StageArtifacts],
    variants: Sequence[tuple[Artifact, list[DeviceRow]]],
) -> dict[str, Any]:
    """Put everything together, and judge every row by the recipe's budget."""
    judged_variants = [(artifact, [judged(row, recipe.budget) for row in rows]) for artifact, rows in variants]
    verdict, best = _overall(judged_variants)
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "run": str(run),
        "seconds": round(seconds, 2),
        "made": made,
        "verdict": verdict,
        "best": best,
        "budget": recipe.budget,
        "teacher": _teacher(reference),
        "stages": [_stage(*stage) for stage in stages],
        "variants": [_variant(artifact, rows, run) for artifact, rows in judged_variants],
        "resolved_recipe": recipe.model_dump(mode="json"),
    }


def _overall(variants: Sequence[tuple[Artifact, list[DeviceRow]]]) -> tuple[Verdict, str | None]:
    """The run passes if a variant keeps the budget on every device where it was measured; the fastest is the best.

    A variant that gives wrong results fails the run, whatever the others do.
    """
    if any(row.problems for _, rows in variants for row in rows):
        return "fail", None
    passing = []
    for artifact, rows in variants:
        measured = [row for row in rows if row.how != "not_measured"]
        if measured and all(row.verdict == "pass" for row in measured):
            passing.append((max(row.latency_p50_ms or 0.0 for row in measured), artifact.manifest.name))
    if passing:
        return "pass", min(passing)[1]
    everything = [row.verdict for _, rows in variants for row in rows]
    return ("fail" if "fail" in everything else "not_measured"), None


def _teacher(reference: Artifact | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    row = _host(reference)
    return {
        "name": reference.manifest.name,
        "params": reference.spec.params,
        "size_bytes": reference.manifest.size_bytes,
        "metrics": [metric.to_json() for metric in reference.spec.metrics],
        "latency_p50_ms": row["latency_p50_ms"] if row else None,
    }


def _stage(name: str, artifacts: list[Artifact], cached: bool, measured: Artifact | None) -> dict[str, Any]:
    """One stage; its numbers are those of the fp32 ONNX file of its checkpoint, or of its first variant."""
    row = _host(measured)
    shown = measured or artifacts[0]
    return {
        "name": name,
        "seconds": round(sum(artifact.manifest.seconds for artifact in artifacts), 2),
        "cached": cached,
        "params": artifacts[-1].spec.params,
        "size_bytes": shown.manifest.size_bytes,
        "metrics": [metric.to_json() for metric in shown.spec.metrics],
        "latency_p50_ms": row["latency_p50_ms"] if row else None,
        "speedup": row["speedup"] if row else None,
    }


def _variant(artifact: Artifact, rows: list[DeviceRow], run: Path) -> dict[str, Any]:
    spec = artifact.spec
    return {
        "name": artifact.manifest.name,
        "format": spec.kind,
        "scheme": spec.scheme,
        "path": str(run / artifact.manifest.name),
        "params": spec.params,
        "size_bytes": artifact.manifest.size_bytes,
        "quantized_share": spec.details.get("quantized_share"),
        "parity": spec.details.get("parity"),
        "metrics": [metric.to_json() for metric in spec.metrics],
        "devices": [asdict(row) for row in rows],
    }


def task_of_run(record: dict[str, Any]) -> Task:
    """The task of a report; those of before there were several are of the first one."""
    return task_of(record.get("resolved_recipe", {}).get("task", CLASSIFICATION))


def rows_of(record: dict[str, Any]) -> list[tuple[str, DeviceRow]]:
    """Every variant × device of a report."""
    return [(variant["name"], row_from_json(row)) for variant in record["variants"] for row in variant["devices"]]
