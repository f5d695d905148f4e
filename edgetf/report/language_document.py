"""The one document of a language run, of the same schema as that of an encoder's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.core.artifact import Artifact
from edgetf.report.document import SCHEMA, StageResult, VariantResult, host_row, run_verdict
from edgetf.validation.judge import judged


def language_document(
    recipe: LanguageRecipe,
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
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "run": str(run),
        "seconds": round(seconds, 2),
        "made": made,
        "verdict": verdict,
        "best": best,
        "budget": recipe.budget,
        "teacher": None if reference is None else {"name": reference.manifest.name, **_measured(reference)},
        "stages": [_stage(stage) for stage in stages],
        "variants": [_variant(variant, run) for variant in variants],
        "family": [],
        "ladder": list(ladders),
        "resolved_recipe": recipe.model_dump(mode="json"),
    }


def _measured(artifact: Artifact) -> dict[str, Any]:
    """The size of a model and what was measured of it here; milliseconds are those of a token."""
    row = host_row(artifact) or {}
    return {
        "params": artifact.spec.params,
        "size_bytes": artifact.manifest.size_bytes,
        "metrics": [metric.to_json() for metric in artifact.spec.metrics],
        "latency_p50_ms": row.get("latency_p50_ms"),
        "decoding": row.get("decoding", []),
    }


def _stage(stage: StageResult) -> dict[str, Any]:
    row = host_row(stage.measured)
    return {
        "name": stage.name,
        "member": None,
        "seconds": round(sum(artifact.manifest.seconds for artifact in stage.artifacts), 2),
        "cached": stage.cached,
        **_measured(stage.shown),
        "params": stage.artifacts[-1].spec.params,
        "speedup": row["speedup"] if row else None,
        "remarks": [],
    }


def _variant(variant: VariantResult, run: Path) -> dict[str, Any]:
    artifact, spec = variant.artifact, variant.artifact.spec
    return {
        "name": artifact.manifest.name,
        "member": None,
        "format": spec.kind,
        "scheme": spec.scheme,
        "path": str(run / artifact.manifest.name),
        "params": spec.params,
        "size_bytes": artifact.manifest.size_bytes,
        "metrics": [metric.to_json() for metric in spec.metrics],
        "remarks": [],
        "devices": [asdict(row) for row in variant.rows],
    }
