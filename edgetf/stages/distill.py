"""Distill: a student, built from the recipe and the teacher, learns what the teacher says of the training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from torch import nn

from edgetf.config.stages import DistillConfig
from edgetf.config.student import FromTeacher
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.errors import ConfigError
from edgetf.models.checkpoint import WEIGHTS, load_classifier, load_weights
from edgetf.models.shapes import shape_of
from edgetf.models.slicing import model_shape
from edgetf.models.students import build_student, student_config
from edgetf.stages.context import Context
from edgetf.stages.fit import fit
from edgetf.stages.importance import Kind, measure
from edgetf.stages.shrink import shrink

INIT_ROWS = 512  # training rows that `init: pruning` asks what is important


def run(config: DistillConfig, source: Artifact, context: Context, out: Path, first: bool = True) -> tuple[Spec, float]:
    """Train the student; gives the spec of its checkpoint and the seconds of training.

    The `first` distill stage builds the student from its source, the teacher; a later one goes on with it.
    """
    set_seed(context.recipe.seed)  # a student of another architecture starts at random
    student = start(source, context) if first else load_classifier(source.path, head=context.head)
    return fit(student, config, source, context, out)


def start(source: Artifact, context: Context) -> Any:
    """The student before its first step."""
    recipe, teacher = context.recipe.student, load_classifier(source.path, head=context.head)
    student = build_student(recipe, teacher, context.head)
    if not isinstance(recipe, FromTeacher):
        return student
    wanted = shape_of(student_config(recipe, teacher.config.to_dict()))
    if wanted != model_shape(student):
        kind: Kind = "fisher" if recipe.init == "pruning" else "magnitude"
        shrink(student, wanted, measure(student, kind, context, source, INIT_ROWS))
    match recipe.init:
        case "random":
            student.apply(student._init_weights)
        case "checkpoint":
            _load(student, Path(str(recipe.checkpoint)))
        case "layers" | "pruning":
            pass
    return student


def _load(student: nn.Module, folder: Path) -> None:
    """Weights of a checkpoint whose encoder has the student's shape; a head of other classes stays new.

    Raises:
        ConfigError: it is not there, or of another shape.
    """
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(f"student.checkpoint: {folder} has no {WEIGHTS}; give the folder of a checkpoint")
    try:
        load_weights(student, folder / WEIGHTS, new_head=True)
    except ValueError as error:
        raise ConfigError(f"student.checkpoint: {folder} is of another shape ({error})") from None
