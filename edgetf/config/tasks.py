"""What a task asks of the other parts of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import assert_never

from edgetf.config.data import DataConfig
from edgetf.config.quantization import QuantizeConfig
from edgetf.config.stages import FinetuneConfig, Stage, stage_name
from edgetf.config.training import LossConfig
from edgetf.core.strict import Strict
from edgetf.core.task_names import TaskName


class PoolingConfig(Strict):
    """How the hidden states of a text become its vector; must be as the teacher was trained."""

    tokens: Annotated[Literal["mean", "first"], Field(description="mean of the unpadded tokens, or the first one")] = (
        "mean"
    )
    normalize: Annotated[bool, Field(description="vectors of length 1")] = True


_VECTOR_WEIGHTS = {"logits": 1.0, "similarities": 1.0, "labels": 0.0}
_TAGGED_COLUMNS = {"text": "tokens", "label": "tags"}


def with_task_defaults(tree: Any) -> Any:
    """The tree of a recipe with the task's own defaults where it says nothing: weights of vectors, columns of tags."""
    task = tree.get("task") if isinstance(tree, dict) else None
    if task == "token_classification" and isinstance(tree.get("data"), dict):
        return {**tree, "data": {**_TAGGED_COLUMNS, **tree["data"]}}
    if task != "sentence_embeddings" or not isinstance(tree.get("stages"), list):
        return tree
    stages = [{**_VECTOR_WEIGHTS, **stage} if _learns(stage) else stage for stage in tree["stages"]]
    return {**tree, "stages": stages, "pooling": tree.get("pooling") or {}}


def _learns(stage: Any) -> bool:
    """Whether the tree of a stage has a distillation loss."""
    return isinstance(stage, dict) and stage.get("stage") in {"distill", "prune"}


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
        case "token_classification":
            return problems + _no_class_of_a_text(data)
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


def _no_class_of_a_text(data: DataConfig) -> list[str]:
    """Words have tags; a text has no class, and no second text."""
    problems = []
    if data.labeller is not None:
        problems.append("data.labeller: it names classes of texts, and token_classification tags words; leave it out")
    if data.text_pair is not None:
        problems.append("data.text_pair: token_classification reads one text; leave it out")
    return problems


def _no_labels(data: DataConfig, stages: Sequence[Stage]) -> list[str]:
    """A text alone, and its teacher."""
    problems = []
    if data.text_pair is not None:
        problems.append("data.text_pair: a vector is of one text; put both into rows of their own")
    if any(isinstance(stage, FinetuneConfig) for stage in stages):
        problems.append("finetune: sentence_embeddings has no labels to train on; drop the stage with finetune=null")
    if any(isinstance(stage, QuantizeConfig) and stage.accuracy_drop is not None for stage in stages):
        problems.append("quantize.accuracy_drop: sentence_embeddings has no accuracy to lose; name schemes instead")
    for name, loss in _losses(stages):
        if loss.labels:
            problems.append(f"{name}.labels: sentence_embeddings has no labels; set it to 0")
    return problems
