"""The tasks that a recipe may name; what each means stands in edgetf.tasks."""

from __future__ import annotations

from typing import Literal

TaskName = Literal["sequence_classification", "regression", "sentence_embeddings", "token_classification"]
CLASSIFICATION: TaskName = "sequence_classification"
LANGUAGE: Literal["language_modeling"] = "language_modeling"  # has recipes and artifacts of its own kind


def by_word(task: TaskName) -> bool:
    """Whether a text has an answer for each of its words, instead of one."""
    return task == "token_classification"
