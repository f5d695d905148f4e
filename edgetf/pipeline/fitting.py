"""Number the labels of the data as a teacher does that keeps its head."""

from __future__ import annotations

from edgetf.config.recipe import Recipe
from edgetf.config.stages import FinetuneConfig
from edgetf.core.errors import ConfigError
from edgetf.core.task_names import TaskName
from edgetf.data.dataset import Dataset, renumbered, retagged
from edgetf.models.checkpoint import align_labels, label_names
from edgetf.models.families.family import Config
from edgetf.models.heads import Head, has_head

_HEADS: dict[TaskName, str] = {
    "sequence_classification": "classification",
    "regression": "regression",
    "sentence_embeddings": "pooling",
    "token_classification": "token classification",
}


def fit_labels(recipe: Recipe, config: Config, data: Dataset, problems: list[str]) -> Dataset:
    """Number the classes as the teacher does, where it keeps its head."""
    if any(isinstance(stage, FinetuneConfig) for stage in recipe.stages):
        return data
    if not has_head(dict(config), Head(recipe.task, recipe.pooling)):
        problems.append(f"teacher: it has no {_HEADS[recipe.task]} head; add a finetune stage, e.g. finetune.epochs=2")
        return data
    known = label_names(dict(config))
    if recipe.task in ("regression", "sentence_embeddings"):  # one number has no name, and a vector's have none
        return data
    if recipe.task == "token_classification" and set(data.label_names) <= set(known):
        return retagged(data, known)
    try:
        return renumbered(data, align_labels(known, data.label_names))
    except ConfigError as error:
        problems += error.problems
        return data
