"""What a task asks of the other parts of a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import assert_never

from edgetf.config.data import DataConfig
from edgetf.config.stages import Stage, stage_name
from edgetf.config.training import LossConfig
from edgetf.core.task_names import TaskName


def wrong_for_task(task: TaskName, data: DataConfig, stages: Sequence[Stage]) -> list[str]:
    """What of a recipe means nothing for its task, in words."""
    match task:
        case "sequence_classification":
            return []
        case "regression":
            return _no_classes(task, data, stages)
        case _:
            assert_never(task)


def _no_classes(task: TaskName, data: DataConfig, stages: Sequence[Stage]) -> list[str]:
    """An endpoint names classes, and the largest logits are those of classes."""
    problems = []
    if data.labeller is not None:
        problems.append(f"data.labeller: it names classes, and {task} has none; leave it out")
    for stage in stages:
        if isinstance(stage, LossConfig) and stage.top_k is not None:
            problems.append(f"{stage_name(stage)}.top_k: it keeps classes, and {task} has none; leave it out")
    return problems
