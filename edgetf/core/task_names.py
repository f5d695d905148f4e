"""The tasks that a recipe may name.

An encoder answers a text at once: what its tasks mean stands in edgetf.tasks. A decoder writes on, token by token, and
is judged by other numbers: edgetf.validation.language.
"""

from __future__ import annotations

from typing import Literal

TaskName = Literal["sequence_classification", "regression", "sentence_embeddings", "token_classification"]
LanguageTask = Literal["language_modeling"]
AnyTask = TaskName | LanguageTask
CLASSIFICATION: TaskName = "sequence_classification"
LANGUAGE_MODELING: LanguageTask = "language_modeling"


def by_word(task: TaskName) -> bool:
    """Whether a text has an answer for each of its words, instead of one."""
    return task == "token_classification"
