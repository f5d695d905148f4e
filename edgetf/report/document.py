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
from edgetf.core.task_names import CLASSIFICATION
from edgetf.report.cost import Counted, counted, faster_than, remark, variant_remarks
from edgetf.tasks import task_of
from edgetf.tasks.task import Task
from edgetf.validation.judge import judged
from edgetf.validation.row import AWAY, DeviceRow, row_from_json

SCHEMA = 1


class StageResult(NamedTuple):
    """What a stage made, whether all of it was there already, and the file that its numbers were taken on."""

    name: str
    artifacts: list[Artifact]
    cached: bool
    measured: Artifact | None
    member: str | None = None  # of a family

    @property
    def shown(self) -> Artifact:
        """Whose numbers stand for the stage: those of the fp32 ONNX file of its checkpoint, or of its first variant."""
        return self.measured or self.artifacts[0]


class VariantResult(NamedTuple):
    """A file that ships, with its device rows."""

    artifact: Artifact
    rows: list[DeviceRow]
    member: str | None = None
    made_by: str = "export"  # the kind of the stage that made the model


def host_row(artifact: Artifact | None) -> dict[str, Any] | None:
    """The first device row of a delivered artifact, where it was measured."""
    from edgetf.core.files import read_json

    path = artifact.path / "validation.json" if artifact else None
    rows = read_json(path) if path is not None and path.is_file() else []
    return rows[0] if rows and rows[0]["how"] not in AWAY else None


def document(
    recipe: Recipe,
    run: Path,
    seconds: float,
    made: dict[str, Any],
    reference: Artifact | None,
    stages: Sequence[StageResult],
    variants: Sequence[VariantResult],
    ladders: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Put everything together, and judge every row by the recipe's budget."""
    variants = [variant._replace(rows=[judged(row, recipe.budget) for row in variant.rows]) for variant in variants]
    verdict, best = run_verdict([(variant.artifact, variant.rows) for variant in variants])
    if not all(ladder["met"] for ladder in ladders):
        verdict = "fail"  # what may be lost was the recipe's to say
    seq_len = recipe.validation.seq_len or recipe.data.max_length
    teacher = counted(reference, seq_len) if reference else None
    said = _stage_remarks(stages, teacher, seq_len)
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "run": str(run),
        "seconds": round(seconds, 2),
        "made": made,
        "verdict": verdict,
        "best": best,
        "budget": recipe.budget,
        "teacher": _teacher(reference, seq_len),
        "stages": [_stage(stage, seq_len, lines) for stage, lines in zip(stages, said, strict=True)],
        "variants": [_variant(variant, run, teacher, seq_len, _said_of(variant, stages, said)) for variant in variants],
        "family": _family(recipe, variants),
        "ladder": list(ladders),
        "resolved_recipe": recipe.model_dump(mode="json"),
    }


def run_verdict(variants: Sequence[tuple[Artifact, list[DeviceRow]]]) -> tuple[Verdict, str | None]:
    """The run passes if a variant keeps the budget; the fastest is the best.

    A variant that gives wrong results fails the run, whatever the others do. One that was not timed, as a scheme that
    is simulated, is never the best; an emulated device times nothing, and has no say in that. Where no variant keeps
    the budget, but one would if its open bounds were kept, the run is not measured.
    """
    if any(row.problems for _, rows in variants for row in rows):
        return "fail", None
    passing = []
    for artifact, rows in variants:
        if _keeps_budget(rows):
            times = [_milliseconds(row) for row in rows if row.how not in {*AWAY, "emulated"}]
            passing.append((max(times, default=float("inf")), artifact.manifest.name))
    if passing:
        fastest, name = min(passing)
        return "pass", name if fastest < float("inf") else None
    failed = any(row.verdict == "fail" for _, rows in variants for row in rows)
    is_open = any(_measured(rows) and _misses_nothing(rows) for _, rows in variants)
    return ("fail" if failed and not is_open else "not_measured"), None


def _keeps_budget(rows: Sequence[DeviceRow]) -> bool:
    """Whether a variant misses no bound on any device, and keeps each on one at least.

    Milliseconds are for devices that are there, instructions for those that are emulated: no device has both.
    """
    checks = [check for row in _measured(rows) for check in row.checks]
    kept = {check["key"] for check in checks if check["verdict"] == "pass"}
    every = {check["key"] for check in checks}
    return bool(_measured(rows)) and _misses_nothing(rows) and every <= kept


def _measured(rows: Sequence[DeviceRow]) -> list[DeviceRow]:
    return [row for row in rows if row.how not in AWAY]


def _misses_nothing(rows: Sequence[DeviceRow]) -> bool:
    return all(row.verdict != "fail" for row in rows)


def _milliseconds(row: DeviceRow) -> float:
    """Its latency; infinity where it was not timed."""
    return float("inf") if row.latency_p50_ms is None else row.latency_p50_ms


def _teacher(reference: Artifact | None, seq_len: int) -> dict[str, Any] | None:
    if reference is None:
        return None
    row = host_row(reference)
    return {
        "name": reference.manifest.name,
        "params": reference.spec.params,
        "macs": counted(reference, seq_len).macs,
        "size_bytes": reference.manifest.size_bytes,
        "metrics": [metric.to_json() for metric in reference.spec.metrics],
        "latency_p50_ms": row["latency_p50_ms"] if row else None,
    }


def _stage_remarks(stages: Sequence[StageResult], teacher: Counted | None, seq_len: int) -> list[list[str]]:
    """What to say of each stage that makes a model smaller: whether it is faster than the model before it."""
    said: list[list[str]] = []
    before, than, speedup = teacher, "its teacher", [1.0, 1.0]
    for stage in stages:
        said.append([])
        kind, row = stage.artifacts[0].manifest.stage, host_row(stage.measured)
        if kind not in {"vocabulary", "distill", "prune"} or row is None or not row.get("speedup_ci95"):
            continue
        own, interval = counted(stage.shown, seq_len), row["speedup_ci95"]
        if before is not None and kind != "vocabulary":
            line = remark(kind, own.macs, before.macs, than, faster_than(interval, speedup), row["device"])
            said[-1] += [line] if line else []
        before, than, speedup = own, f"the model before it ({stage.name})", interval
    return said


def _said_of(variant: VariantResult, stages: Sequence[StageResult], said: Sequence[list[str]]) -> list[str]:
    """The remarks on the stage whose numbers this variant's file gives."""
    own = [lines for stage, lines in zip(stages, said, strict=True) if stage.measured is variant.artifact]
    return [line for lines in own for line in lines]


def _stage(stage: StageResult, seq_len: int, remarks: list[str]) -> dict[str, Any]:
    """One stage."""
    row = host_row(stage.measured)
    return {
        "name": stage.name,
        "member": stage.member,
        "seconds": round(sum(artifact.manifest.seconds for artifact in stage.artifacts), 2),
        "cached": stage.cached,
        "params": stage.artifacts[-1].spec.params,
        "macs": counted(stage.shown, seq_len).macs,
        "size_bytes": stage.shown.manifest.size_bytes,
        "metrics": [metric.to_json() for metric in stage.shown.spec.metrics],
        "latency_p50_ms": row["latency_p50_ms"] if row else None,
        "speedup": row["speedup"] if row else None,
        "remarks": remarks,
    }


def _family(recipe: Recipe, variants: Sequence[VariantResult]) -> list[dict[str, Any]]:
    """The members that a prune stage with several targets made, largest first, each judged by its own variants."""
    prune = next((stage for stage in recipe.stages if isinstance(stage, PruneConfig)), None)
    found = []
    for member, config in prune.members().items() if prune else ():
        if member is not None and config.target is not None:
            own = [(variant.artifact, variant.rows) for variant in variants if variant.member == member]
            verdict, best = run_verdict(own)
            target = config.target.model_dump(exclude_none=True)
            found.append({"name": member, "target": target, "verdict": verdict, "best": best})
    return found


def _variant(
    variant: VariantResult, run: Path, teacher: Counted | None, seq_len: int, remarks: list[str]
) -> dict[str, Any]:
    artifact, spec = variant.artifact, variant.artifact.spec
    own = counted(artifact, seq_len)
    beside = variant_remarks(variant.made_by, own, teacher, variant.rows) if teacher else []
    return {
        "name": artifact.manifest.name,
        "member": variant.member,
        "format": spec.kind,
        "scheme": spec.scheme,
        "path": str(run / artifact.manifest.name),
        "params": spec.params,
        "macs": own.macs,
        "size_bytes": artifact.manifest.size_bytes,
        "quantized_share": spec.details.get("quantized_share"),
        "parity": spec.details.get("parity"),
        "metrics": [metric.to_json() for metric in spec.metrics],
        "remarks": list(dict.fromkeys([*beside, *remarks])),
        "devices": [asdict(row) for row in variant.rows],
    }


def task_of_run(record: dict[str, Any]) -> Task:
    """The task of a report; those of before there were several are of the first one."""
    return task_of(record.get("resolved_recipe", {}).get("task", CLASSIFICATION))


def rows_of(record: dict[str, Any]) -> list[tuple[str, DeviceRow]]:
    """Every variant × device of a report."""
    return [(variant["name"], row_from_json(row)) for variant in record["variants"] for row in variant["devices"]]
