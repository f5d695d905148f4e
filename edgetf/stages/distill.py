"""Distill: a student, built from the recipe and the teacher, learns what the teacher says of the training rows."""

from __future__ import annotations

from pathlib import Path

from accelerate.utils import set_seed

from edgetf.config.recipe import DistillConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.models.checkpoint import load_classifier
from edgetf.models.students import build_student
from edgetf.stages.context import Context
from edgetf.stages.fit import fit
from edgetf.stages.objective import distillation_loss


def run(config: DistillConfig, source: Artifact, context: Context, out: Path) -> tuple[Spec, float]:
    """Train the student; gives the spec of its checkpoint and the seconds of training."""
    teacher = load_classifier(source.path)
    set_seed(context.recipe.seed)  # a student of another architecture starts at random
    student = build_student(context.recipe.student, teacher)
    loss = distillation_loss(config, teacher, student, context)
    return fit(student, loss, config, source, context, out)
