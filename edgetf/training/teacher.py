"""The teacher's logits, computed once for a set of rows and kept on disk, keyed by teacher and rows.

How they are gathered: see edgetf.training.gather.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetf.algorithms.distillation import soft_logits_loss, soft_top_k_loss
from edgetf.core.artifact import key_of
from edgetf.core.part import WHOLE, Part
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.models.families import family_of
from edgetf.runtime.encoder import Encoder
from edgetf.training import processes
from edgetf.training.batches import Rows, in_order
from edgetf.training.gather import Arrays, Shelf, fetch, fill

_NOTE = "blocks of the teacher's logits"


def takes_token_types(model: Any) -> bool:
    """Whether the model has an input for token types."""
    return family_of(model.config.model_type).takes_token_types


def infer(model: Any, rows: Rows, encoder: Encoder, only: range | None = None) -> NDArray[np.float32]:
    """The answers (N, C) of every piece, or of `only` those; of a word that no piece holds, zeros."""
    model.eval()
    device = next(model.parameters()).device
    only = range(len(rows)) if only is None else only
    wanted = rows.answers_of(only)
    logits = np.zeros((0, 0), dtype=np.float32)
    with torch.inference_mode():
        for _, batch in in_order(rows, encoder, only):
            found = model(**batch.to(device).inputs(takes_token_types(model))).logits
            output = batch.answers(found.float().cpu()).numpy()
            if not logits.shape[1]:  # only the model knows how wide its answers are
                logits = np.zeros((len(wanted), output.shape[1]), dtype=np.float32)
            logits[batch.numbers.numpy() - wanted.start] = output
    return logits


def by_row(logits: NDArray[np.float32], rows: Rows) -> NDArray[np.float64]:
    """Mean of a row's pieces: (P, C) to (N, C); words have an answer each."""
    if rows.starts is not None:
        return np.asarray(logits, dtype=np.float64)
    sources = np.asarray(rows.sources)
    sums = np.zeros((sources.max() + 1, logits.shape[1]))
    np.add.at(sums, sources, logits)
    return np.asarray(sums / np.bincount(sources)[:, None])


@dataclass(frozen=True)
class SoftTargets:
    """The teacher's logits of P pieces, memory-mapped: `top` (P, k) of the classes `kept` (P, k), and `rest` (P,).

    `rest` is the log of the summed exponentials of the other logits, each divided by `temperature`. Where all classes
    are there, `kept` and `rest` are None.
    """

    top: NDArray[np.float32]
    temperature: float
    kept: NDArray[np.int32] | None = None
    rest: NDArray[np.float32] | None = None

    def at(self, positions: Tensor, like: Tensor) -> Tensor:
        """The teacher's answers (B, C) at these positions, of the dtype and on the device of another tensor."""
        return torch.from_numpy(self.top[positions.cpu().numpy()]).to(like)

    def given(self, positions: Tensor) -> Tensor:
        """For which of these positions (B,) there is an answer; a word that the teacher did not read has zeros."""
        return torch.from_numpy(self.top[positions.cpu().numpy()].any(axis=1))

    def loss(self, student: Tensor, positions: Tensor) -> Tensor:
        """The soft-logits loss of a batch of student logits (B, C)."""
        rows = positions.cpu().numpy()
        top = torch.from_numpy(self.top[rows]).to(student.device)
        if self.kept is None or self.rest is None:
            return soft_logits_loss(student, top, self.temperature)
        kept = torch.from_numpy(self.kept[rows]).long().to(student.device)
        rest = torch.from_numpy(self.rest[rows]).to(student.device)
        return soft_top_k_loss(student, top, kept, rest, self.temperature)


@dataclass(frozen=True)
class Question:
    """What a teacher is asked: its own fingerprint, the pieces of its own tokens and the fingerprint of their texts.

    With `top_k` below the number of classes only so many logits are kept, and what the others come to at the
    temperature.
    """

    teacher: str
    texts: str
    rows: Rows
    encoder: Encoder
    top_k: int | None = None
    temperature: float = 1.0

    @property
    def folder(self) -> Path:
        """Where the answer lies in the cache."""
        base = [self.teacher, self.texts, len(self.rows), self.encoder.max_length, self.encoder.long_texts]
        key = key_of(base if self.top_k is None else [*base, self.top_k, self.temperature])
        return cache_folder() / "teacher-logits" / key[:24]

    @property
    def shelf(self) -> Shelf:
        """Where its arrays are gathered."""
        return Shelf(self.folder, len(self.rows), self.rows.answers)


def cached_logits(model: Callable[[], Any], question: Question, report: Report) -> SoftTargets:
    """The teacher's logits, memory-mapped from the cache, where they are written if they are not yet there.

    `model` gives the teacher; it is asked only for blocks that nobody has answered yet.
    """
    found = fetch(question.shelf, lambda pieces: _answered(model, question, pieces), report, _NOTE)
    return SoftTargets(found["top"], question.temperature, found.get("kept"), found.get("rest"))


def answer(model: Callable[[], Any], question: Question, report: Report, part: Part = WHOLE) -> int:
    """Write the missing blocks of a part of the answer; gives their number, of which each process writes some."""
    return fill(question.shelf, lambda pieces: _answered(model, question, pieces), report, _NOTE, part)


def _answered(model: Callable[[], Any], question: Question, pieces: range) -> Arrays:
    """The arrays of a block: what these pieces answer."""
    logits = infer(model().to(processes.device()), question.rows, question.encoder, pieces)
    targets = SoftTargets(logits, question.temperature)
    if question.top_k is not None and question.top_k < logits.shape[1]:
        targets = keep_top(logits, question.top_k, question.temperature)
    named = {"kept": targets.kept, "rest": targets.rest, "top": targets.top}
    return {name: array for name, array in named.items() if array is not None}


def keep_top(logits: NDArray[np.float32], k: int, temperature: float) -> SoftTargets:
    """The k largest of every row of (P, C), and what the others come to.

    >>> keep_top(np.array([[0.0, 2.0, 1.0]], np.float32), 2, 1.0).kept.tolist()
    [[1, 2]]
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    kept, others = order[:, :k], order[:, k:]
    scaled = np.take_along_axis(logits, others, axis=1) / temperature
    highest = scaled.max(axis=1, keepdims=True)
    rest = (np.log(np.exp(scaled - highest).sum(axis=1, keepdims=True)) + highest)[:, 0]
    return SoftTargets(
        np.take_along_axis(logits, kept, axis=1), temperature, kept.astype(np.int32), rest.astype(np.float32)
    )
