"""`evaluation.jsonl`: the held-out rows with the teacher's own logits, so that a device needs no teacher to compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import ArtifactError
from edgetf.core.files import read_lines
from edgetf.core.metrics import Floats, Metric, stacked
from edgetf.core.metrics import Labels as Classes
from edgetf.core.task_names import CLASSIFICATION, TaskName, by_word
from edgetf.runtime.words import by_text
from edgetf.tasks import classification, task_of
from edgetf.tasks.task import Labels

EVALUATION = "evaluation.jsonl"


@dataclass(frozen=True)
class Evaluation:
    """N rows; `teacher_logits`, the teacher's answers, have shape (N, C), a row for each text or word."""

    texts: list[str]
    pairs: list[str] | None
    labels: Labels
    teacher_logits: Floats
    task: TaskName = CLASSIFICATION
    names: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        return int(self.teacher_logits.shape[1])

    @property
    def teacher(self) -> Classes:
        """The teacher's classes, shape (N,)."""
        return classification.decisions(self.teacher_logits)

    def select(self, chosen: Sequence[int]) -> Evaluation:
        """Some of the rows, by their numbers."""
        words = by_word(self.task)
        answers = by_text(self.teacher_logits, self.texts) if words else self.teacher_logits
        some = [answers[k] for k in chosen]
        return replace(
            self,
            texts=[self.texts[k] for k in chosen],
            pairs=[self.pairs[k] for k in chosen] if self.pairs is not None else None,
            labels=task_of(self.task).labels([self.labels[k] for k in chosen] if len(self.labels) else []),
            teacher_logits=np.concatenate(some) if words else np.asarray(some),
        )

    def fits(self, logits: Floats) -> bool:
        """Whether answers are of a shape that can be compared with the teacher's."""
        free = task_of(self.task).any_width
        return len(logits) == len(self.teacher_logits) if free else logits.shape == self.teacher_logits.shape

    def compare(self, logits: Floats) -> list[Metric]:
        """Every metric of the task for a model's answers (N, C)."""
        return task_of(self.task).compare(logits, self.teacher_logits, self.labels, self.names)

    def baseline_problem(self) -> str | None:
        """Why a comparison with this teacher means nothing, or None: it must beat the floor of its task."""
        return task_of(self.task).floor(self.teacher_logits, self.labels, self.names)


def write_evaluation(folder: Path, rows: Evaluation) -> None:
    """Write the file."""
    with (folder / EVALUATION).open("w", encoding="utf-8") as stream:
        answers = by_text(rows.teacher_logits, rows.texts) if by_word(rows.task) else rows.teacher_logits
        for row, text in enumerate(rows.texts):
            record: dict[str, Any] = {"text": text}
            if len(rows.labels):
                record["label"] = np.asarray(rows.labels[row]).tolist()
            if rows.pairs is not None:
                record["text_pair"] = rows.pairs[row]
            record[f"teacher_{task_of(rows.task).output}"] = answers[row].round(6).tolist()
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_evaluation(folder: Path, task: TaskName = CLASSIFICATION, names: Sequence[str] = ()) -> Evaluation:
    """Read the file of a task whose classes have these names.

    Raises:
        ArtifactError: missing or broken.
    """
    path = folder / EVALUATION
    rows = read_lines(path)
    try:
        return Evaluation(
            texts=[row["text"] for row in rows],
            pairs=[row["text_pair"] for row in rows] if "text_pair" in rows[0] else None,
            labels=task_of(task).labels([row["label"] for row in rows] if task_of(task).labelled else []),
            teacher_logits=stacked([row[f"teacher_{task_of(task).output}"] for row in rows]),
            task=task,
            names=tuple(names),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the recipe again") from None
