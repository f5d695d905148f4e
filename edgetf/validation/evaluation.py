"""`evaluation.jsonl`: the held-out rows with the teacher's own logits, so that a device needs no teacher to compare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.errors import ArtifactError
from edgetf.core.files import read_lines
from edgetf.core.metrics import Floats, Labels, wilson

EVALUATION = "evaluation.jsonl"


@dataclass(frozen=True)
class Evaluation:
    """N rows; `teacher_logits` has shape (N, C)."""

    texts: list[str]
    pairs: list[str] | None
    labels: Labels
    teacher_logits: Floats

    @property
    def classes(self) -> int:
        return int(self.teacher_logits.shape[1])

    @property
    def teacher(self) -> Labels:
        """The teacher's decisions, shape (N,)."""
        return np.asarray(self.teacher_logits.argmax(axis=1), dtype=np.int64)

    def baseline_problem(self) -> str | None:
        """Why a comparison with this teacher means nothing, or None: it must beat the most frequent class."""
        n = len(self.labels)
        floor = np.bincount(self.labels).max() / n
        hits = int((self.teacher == self.labels).sum())
        low, _ = wilson(hits, n)
        if low > floor:
            return None
        return (
            f"baseline: the teacher's accuracy {hits / n:.3f} does not beat the most frequent class ({floor:.3f}) "
            f"on {n} rows, so a comparison with it means nothing"
        )


def write_evaluation(folder: Path, rows: Evaluation) -> None:
    """Write the file."""
    with (folder / EVALUATION).open("w", encoding="utf-8") as stream:
        for row, text in enumerate(rows.texts):
            record: dict[str, Any] = {"text": text, "label": int(rows.labels[row])}
            if rows.pairs is not None:
                record["text_pair"] = rows.pairs[row]
            record["teacher_logits"] = [round(value, 6) for value in rows.teacher_logits[row].tolist()]
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_evaluation(folder: Path) -> Evaluation:
    """Read the file.

    Raises:
        ArtifactError: missing or broken.
    """
    path = folder / EVALUATION
    rows = read_lines(path)
    try:
        return Evaluation(
            texts=[row["text"] for row in rows],
            pairs=[row["text_pair"] for row in rows] if "text_pair" in rows[0] else None,
            labels=np.asarray([row["label"] for row in rows], dtype=np.int64),
            teacher_logits=np.asarray([row["teacher_logits"] for row in rows], float),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the recipe again") from None
