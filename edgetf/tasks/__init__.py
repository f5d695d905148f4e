"""What a task means once a model has answered: metrics, sanity floor, and words. Needs numpy only.

What it means while a model learns stands in edgetf.training.lessons, its heads in edgetf.models.heads, its labels in
edgetf.data.labels.
"""

from __future__ import annotations

from typing_extensions import assert_never

from edgetf.core.task_names import TaskName
from edgetf.tasks import classification, embeddings, regression, tokens
from edgetf.tasks.task import Task


def task_of(name: TaskName) -> Task:
    """The task of that name."""
    match name:
        case "sequence_classification":
            return classification.TASK
        case "regression":
            return regression.TASK
        case "sentence_embeddings":
            return embeddings.TASK
        case "token_classification":
            return tokens.TASK
        case _:
            assert_never(name)
