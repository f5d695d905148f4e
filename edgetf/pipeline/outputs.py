"""The teacher's outputs alone: what the stages of a recipe will ask it, or a part of that, computed into the cache.

So another machine, or several, can do the teacher's passes. A run that finds all of them there asks no teacher; one
that finds some computes the rest.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgetf.config.stages import DistillConfig, FinetuneConfig, PruneConfig, VocabularyConfig, stage_name
from edgetf.config.training import LossConfig
from edgetf.core.artifact import Artifact
from edgetf.core.errors import ConfigError, needs
from edgetf.core.part import Part
from edgetf.core.places import cache_folder
from edgetf.core.quiet import quiet
from edgetf.models.checkpoint import read_config
from edgetf.models.shapes import shape_of
from edgetf.models.students import student_config
from edgetf.pipeline.plan import Plan
from edgetf.pipeline.store import Store, run_lock
from edgetf.pipeline.workshop import Workshop
from edgetf.report.progress import Reporter
from edgetf.stages.context import Context


def execute_outputs(plan: Plan, out: Path, part: Part, fresh: bool, reporter: Reporter) -> dict[str, Any]:
    """Make or find the teacher in `out`, and write this part of its outputs to the cache; gives what was done.

    Raises:
        ConfigError: no stage learns from a teacher, or the part needs one that is to be made with the first part.
    """
    asking = [stage for stage in plan.recipe.stages if isinstance(stage, DistillConfig | PruneConfig)]
    if not asking:
        raise ConfigError("--teacher-outputs: no stage learns from a teacher; add a distill or a prune stage")
    started = time.monotonic()
    with run_lock(out):
        source, context = _teacher(plan, Store(out, fresh), reporter, part)
        with needs("compress"), quiet():
            from edgetf.stages.outputs import fill_outputs
            from edgetf.training.processes import call

        for stage in asking:
            with reporter.step(f"{stage_name(stage)}: teacher's outputs, part {part.number} of {part.of}"):
                call(fill_outputs, stage, _signals(stage, plan, source, context), source, context, part)
    return {
        "schema": 1,
        "recipe": plan.recipe.name,
        "part": vars(part),
        "cache": str(cache_folder()),
        "seconds": round(time.monotonic() - started, 2),
    }


def _teacher(plan: Plan, store: Store, reporter: Reporter, part: Part) -> tuple[Artifact, Context]:
    """The checkpoint that the first distillation reads, and what the stages are told of teacher and tutor."""
    shop, refusal = Workshop(plan, store, reporter), None
    finetune = next((stage for stage in plan.recipe.stages if isinstance(stage, FinetuneConfig)), None)
    if part.number > 1 and finetune is not None:
        carried = ", or give teacher.source=RUN/1-finetune finetune=null" if finetune.ensemble == 1 else ""
        refusal = (  # another training would give another teacher
            f"--teacher-outputs {part.number}/{part.of}: the teacher is not in the cache; let part 1/{part.of} make it "
            f"with the same EDGETF_CACHE{carried}"
        )
    source = shop.teacher(refusal)
    shop.context = shop.context.with_teacher(source)
    for number, stage in enumerate(plan.recipe.stages, start=1):
        name = f"{number}-{stage_name(stage)}"
        if isinstance(stage, FinetuneConfig):
            first = shop.checkpoint(name, stage, source, refusal=refusal).artifact
            shop.context = shop.context.with_teacher(first)
            shop.ensemble(number, stage, source, refusal)
            source = first
        elif isinstance(stage, VocabularyConfig):
            source = shop.checkpoint(name, stage, source).artifact
            shop.context = shop.context.with_tutor(source)
    return source, shop.context


def _signals(stage: LossConfig, plan: Plan, source: Artifact, context: Context) -> tuple[str, ...]:
    """The states that a stage will read from the disk; what a pruning compares is known only when it has pruned."""
    from edgetf.stages.signals import wanted_signals

    if not stage.cache_states or isinstance(stage, PruneConfig):
        return ()
    student = shape_of(student_config(plan.recipe.student, read_config(source.path)))
    tutor = shape_of(read_config((context.tutor or context.the_teacher()).path))
    heads = ([layer.heads for layer in shape.layers] for shape in (student, tutor))
    return wanted_signals(stage, *heads).teacher
