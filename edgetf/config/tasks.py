"""What a task asks of the other parts of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import assert_never

from edgetf.config.data import DataConfig
from edgetf.config.stages import FinetuneConfig, Stage, stage_name
from edgetf.config.training import LossConfig
from edgetf.core.device import Strict
from edgetf.core.task_names import TaskName


class PoolingConfig(Strict):
    """How the hidden states of a text become its vector; must be as the teacher was trained."""

    tokens: Annotated[Literal["mean", "first"], Field(description="mean of the unpadded tokens, or the first one")] = (
        "mean"
    )
    normalize: Annotated[bool, Field(description="vectors of length 1")] = True


_DEFAULTS: dict[TaskName, dict[str, Any]] = {
    "sentence_embeddings": {"logits": 1.0, "similarities": 1.0, "labels": 0.0},
}


def with_task_defaults(tree: Any) -> Any:
    """The tree of a recipe with what its task weighs in a distillation loss that says nothing of it."""
    if not isinstance(tree, dict) or tree.get("task") not in _DEFAULTS or not isinstance(tree.get("stages"), list):
        return tree
    defaults = _DEFAULTS[tree["task"]]
    stages = [
        {**defaults, **stage} if isinstance(stage, dict) and stage.get("stage") in {"distill", "prune"} else stage
        for stage in tree["stages"]
    ]
    pooling = {"pooling": tree.get("pooling") or {}} if tree["task"] == "sentence_embeddings" else {}
    return {**tree, "stages": stages, **pooling}


def wrong_for_task(
    task: TaskName, data: DataConfig, stages: Sequence[Stage], pooling: PoolingConfig | None
) -> list[str]:
    """What of a recipe means nothing for its task, in words."""
    problems = []
    if task != "sentence_embeddings":
        problems += _no_vectors(stages, pooling)
    match task:
        case "sequence_classification":
            return problems
        case "regression":
            return problems + _no_classes(task, data, stages)
        case "sentence_embeddings":
            return problems + _no_classes(task, data, stages) + _no_labels(data, stages)
        case _:
            assert_never(task)


def _losses(stages: Sequence[Stage]) -> list[tuple[str, LossConfig]]:
    return [(stage_name(stage), stage) for stage in stages if isinstance(stage, LossConfig)]


def _no_classes(task: TaskName, data: DataConfig, stages: Sequence[Stage]) -> list[str]:
    """An endpoint names classes, and the largest logits are those of classes."""
    problems = []
    if data.labeller is not None:
        problems.append(f"data.labeller: it names classes, and {task} has none; leave it out")
    for name, loss in _losses(stages):
        if loss.top_k is not None:
            problems.append(f"{name}.top_k: it keeps classes, and {task} has none; leave it out")
    return problems


def _no_vectors(stages: Sequence[Stage], pooling: PoolingConfig | None) -> list[str]:
    """Pooling and its terms are for vectors."""
    problems = []
    if pooling is not None:
        problems.append("pooling: for sentence_embeddings only; leave it out")
    for name, loss in _losses(stages):
        if loss.similarities:
            problems.append(f"{name}.similarities: for sentence_embeddings only; set it to 0")
    return problems


def _no_labels(data: DataConfig, stages: Sequence[Stage]) -> list[str]:
    """A text alone, and its teacher."""
    problems = []
    if data.text_pair is not None:
        problems.append("data.text_pair: a vector is of one text; put both into rows of their own")
    if any(isinstance(stage, FinetuneConfig) for stage in stages):
        problems.append("finetune: sentence_embeddings has no labels to train on; drop the stage with finetune=null")
    for name, loss in _losses(stages):
        if loss.labels:
            problems.append(f"{name}.labels: sentence_embeddings has no labels; set it to 0")
    return problems
