"""Sequence classification: one class of several for a text or a pair; answers are logits (N, C)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetf.core.metrics import Floats, Metric, compare_with_teacher, softmax, wilson
from edgetf.core.metrics import Labels as Classes
from edgetf.tasks.task import Labels, Said, Task


def decisions(logits: Floats) -> Classes:
    """The class (N,) of the largest logit of each row (N, C)."""
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def compare(logits: Floats, teacher: Floats, labels: Labels, names: Sequence[str]) -> list[Metric]:
    """Accuracy, its drop, agreement, macro F1 and McNemar's test."""
    return compare_with_teacher(
        decisions(logits), decisions(teacher), np.asarray(labels, dtype=np.int64), teacher.shape[1]
    )


def floor(teacher: Floats, labels: Labels, names: Sequence[str]) -> str | None:
    """The teacher must beat the most frequent class."""
    classes, n = np.asarray(labels, dtype=np.int64), len(labels)
    most = np.bincount(classes).max() / n
    hits = int((decisions(teacher) == classes).sum())
    low, _ = wilson(hits, n)
    if low > most:
        return None
    return (
        f"baseline: the teacher's accuracy {hits / n:.3f} does not beat the most frequent class ({most:.3f}) "
        f"on {n} rows, so a comparison with it means nothing"
    )


def score(logits: Floats, labels: Labels, names: Sequence[str]) -> float:
    """Accuracy."""
    return float(np.mean(decisions(logits) == np.asarray(labels, dtype=np.int64)))


def say(texts: Sequence[str], logits: Floats, names: Sequence[str]) -> list[Said]:
    """The class of every text, with all probabilities."""
    said = []
    for text, row in zip(texts, softmax(logits), strict=True):
        best = names[int(row.argmax())]
        every = {name: round(float(value), 6) for name, value in zip(names, row, strict=True)}
        record = {"text": text, "label": best, "probability": every[best], "probabilities": every}
        said.append(Said(record, f"{best}  {every[best]:.3f}  {text}"))
    return said


TASK = Task(
    headline="accuracy",
    unit="fraction",
    drop="accuracy_drop",
    output="logits",
    pipeline_tag="text-classification",
    answers="classes",
    labels=lambda found: np.asarray(found, dtype=np.int64),
    compare=compare,
    floor=floor,
    score=score,
    say=say,
)
