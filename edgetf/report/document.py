"""The one document of a run, as `compress --json` prints it and `report.json` keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from edgetf.config.recipe import Recipe
from edgetf.config.stages import PruneConfig
from edgetf.core.artifact import Artifact
from edgetf.core.budget import Verdict
from edgetf.validation.validate import DeviceRow, judged, row_from_json

SCHEMA = 1


class StageResult(NamedTuple):
    """What a stage made, whether all of it was there already, and the file that its numbers were taken on."""

    name: str
    artifacts: list[Artifact]
    cached: bool
    measured: Artifact | None
    member: str | None = None  # of a family


class VariantResult(NamedTuple):
    """A file that ships, with its device rows."""

    artifact: Artifact
    rows: list[DeviceRow]
    member: str | None = None


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
    stages: Sequence[StageResult],
    variants: Sequence[VariantResult],
) -> dict[str, Any]:
    """Put everything together, and judge every row by the recipe's budget."""
    variants = [variant._replace(rows=[judged(row, recipe.budget) for row in variant.rows]) for variant in variants]
    verdict, best = _overall([(variant.artifact, variant.rows) for variant in variants])
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
        "stages": [_stage(stage) for stage in stages],
        "variants": [_variant(variant, run) for variant in variants],
        "family": _family(recipe, variants),
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


def _stage(stage: StageResult) -> dict[str, Any]:
    """One stage; its numbers are those of the fp32 ONNX file of its checkpoint, or of its first variant."""
    row = _host(stage.measured)
    shown = stage.measured or stage.artifacts[0]
    return {
        "name": stage.name,
        "member": stage.member,
        "seconds": round(sum(artifact.manifest.seconds for artifact in stage.artifacts), 2),
        "cached": stage.cached,
        "params": stage.artifacts[-1].spec.params,
        "size_bytes": shown.manifest.size_bytes,
        "metrics": [metric.to_json() for metric in shown.spec.metrics],
        "latency_p50_ms": row["latency_p50_ms"] if row else None,
        "speedup": row["speedup"] if row else None,
    }


def _family(recipe: Recipe, variants: Sequence[VariantResult]) -> list[dict[str, Any]]:
    """The members that a prune stage with several targets made, largest first, each judged by its own variants."""
    prune = next((stage for stage in recipe.stages if isinstance(stage, PruneConfig)), None)
    found = []
    for member, config in prune.members().items() if prune else ():
        if member is not None and config.target is not None:
            own = [(variant.artifact, variant.rows) for variant in variants if variant.member == member]
            verdict, best = _overall(own)
            target = config.target.model_dump(exclude_none=True)
            found.append({"name": member, "target": target, "verdict": verdict, "best": best})
    return found


def _variant(variant: VariantResult, run: Path) -> dict[str, Any]:
    artifact, spec = variant.artifact, variant.artifact.spec
    return {
        "name": artifact.manifest.name,
        "member": variant.member,
        "format": spec.kind,
        "scheme": spec.scheme,
        "path": str(run / artifact.manifest.name),
        "params": spec.params,
        "size_bytes": artifact.manifest.size_bytes,
        "quantized_share": spec.details.get("quantized_share"),
        "parity": spec.details.get("parity"),
        "metrics": [metric.to_json() for metric in spec.metrics],
        "devices": [asdict(row) for row in variant.rows],
    }


def rows_of(record: dict[str, Any]) -> list[tuple[str, DeviceRow]]:
    """Every variant × device of a report."""
    return [(variant["name"], row_from_json(row)) for variant in record["variants"] for row in variant["devices"]]
