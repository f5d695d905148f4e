"""What would only come out hours later, found before any work: lengths beyond the positions, terms that do not fit."""

from __future__ import annotations

import numpy as np

from edgetf.config.recipe import Recipe
from edgetf.config.stages import ExportConfig, PruneConfig, stage_name
from edgetf.config.training import LossConfig
from edgetf.core.errors import ConfigError
from edgetf.models.families import family_of
from edgetf.models.families.family import Config
from edgetf.models.shapes import shape_of
from edgetf.pipeline.forecast import changes
from edgetf.stages.signals import wanted_signals


def shape_problems(recipe: Recipe, teacher: Config) -> list[str]:
    """Every problem of the stages with the shapes of their models.

    Raises:
        ConfigError: the student does not fit its teacher.
    """
    problems = []
    reserved = family_of(teacher["model_type"]).reserved_positions
    positions = int(teacher.get("max_position_embeddings", recipe.data.max_length)) - reserved
    if recipe.data.max_length > positions:
        problems.append(f"data.max_length: got {recipe.data.max_length}, allowed: up to the teacher's {positions}")
    for stage, before, after in changes(recipe, teacher):
        if isinstance(stage, ExportConfig) and any(length > positions for length in stage.seq_lens):
            problems.append(f"export.seq_lens: got {max(stage.seq_lens)}, allowed: up to the teacher's {positions}")
        if isinstance(stage, LossConfig):
            problems += _loss_problems(stage, stage_name(stage), teacher, before, after)
    return problems


def _loss_problems(stage: LossConfig, name: str, teacher: Config, before: Config, after: Config) -> list[str]:
    """What the terms of a stage's loss cannot compare.

    A search finds the heads of each layer only when the stage runs, but it keeps the layers.
    """
    searched = isinstance(stage, PruneConfig) and stage.target is not None
    problems = _signal_problems(stage, teacher, before if searched else after)
    if stage.relations > 0 and not searched:
        problems += _relation_problems(stage, teacher, [before, after] if isinstance(stage, PruneConfig) else [after])
    return [f"{name}.{problem}" for problem in problems]


def _signal_problems(stage: LossConfig, teacher: Config, student: Config) -> list[str]:
    """What the stage itself would say of its layers."""
    ours, theirs = ([layer.heads for layer in shape_of(config).layers] for config in (student, teacher))
    try:
        wanted_signals(stage, ours, theirs)
    except ConfigError as error:
        return error.problems
    return []


def _relation_problems(stage: LossConfig, teacher: Config, models: list[Config]) -> list[str]:
    """Relation heads must divide the attention widths of the teacher, and of the student before and after pruning."""
    widths = {shape.head_width * layer.heads for shape in map(shape_of, [teacher, *models]) for layer in shape.layers}
    common = int(np.gcd.reduce(sorted(widths)))
    if common % stage.relation_heads == 0:
        return []
    return [
        f"relation_heads: got {stage.relation_heads}, allowed: a divisor of {common}, which divides "
        "the attention widths of teacher and student"
    ]
