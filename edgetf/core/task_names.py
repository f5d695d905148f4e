"""The tasks that a recipe may name; what each means stands in edgetf.tasks."""

from __future__ import annotations

from typing import Literal

TaskName = Literal["sequence_classification", "regression", "sentence_embeddings"]
CLASSIFICATION: TaskName = "sequence_classification"
