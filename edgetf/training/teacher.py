"""The teacher's logits, computed once for a set of rows and kept on disk, keyed by teacher and rows."""

from __future__ import annotations

import os
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
from edgetf.core.files import guard_disk
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.models.families import family_of
from edgetf.runtime.encoder import Encoder
from edgetf.training.batches import Rows, in_order


def takes_token_types(model: Any) -> bool:
    """Whether the model has an input for token types."""
    return family_of(model.config.model_type).takes_token_types


def infer(model: Any, rows: Rows, encoder: Encoder, report: Report | None = None) -> NDArray[np.float32]:
    """Logits (P, C) of every piece, or (W, C) of every word, zeros for one that no piece holds."""
    model.eval()
    device = next(model.parameters()).device
    logits = np.zeros((0, 0), dtype=np.float32)
    done = 0
    with torch.inference_mode():
        for positions, batch in in_order(rows, encoder):
            found = model(**batch.to(device).inputs(takes_token_types(model))).logits
            output = batch.answers(found.float().cpu()).numpy()
            if not len(logits):
                logits = np.zeros((rows.answers, output.shape[1]), dtype=np.float32)
            logits[batch.numbers.numpy()] = output
            done += len(positions)
            if report is not None:
                report(done, len(rows), "teacher's logits")
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

    def loss(self, student: Tensor, positions: Tensor) -> Tensor:
        """The soft-logits loss of a batch of student logits (B, C)."""
        rows = positions.cpu().numpy()
        top = torch.from_numpy(self.top[rows]).to(student.device)
        if self.kept is None or self.rest is None:
            return soft_logits_loss(student, top, self.temperature)
        kept = torch.from_numpy(self.kept[rows]).long().to(student.device)
        rest = torch.from_numpy(self.rest[rows]).to(student.device)
        return soft_top_k_loss(student, top, kept, rest, self.temperature)


def cached_logits(
    model: Callable[[], Any], teacher_digest: str, rows: Rows, encoder: Encoder, fingerprint: str, report: Report,
    top_k: int | None = None, temperature: float = 1.0,
) -> SoftTargets:  # fmt: skip
    """The teacher's logits, memory-mapped from the cache, where they are written if they are not yet there.

    `model` gives the teacher; it is asked only where the cache is cold. With `top_k` below the number of classes only
    so many logits are kept, and what the others come to at the temperature.
    """
    base = [teacher_digest, fingerprint, len(rows), encoder.max_length, encoder.long_texts]
    key = key_of(base if top_k is None else [*base, top_k, temperature])
    folder = cache_folder() / "teacher-logits" / key[:24]
    if not (folder / "top.npy").is_file():
        logits = infer(model(), rows, encoder, report)
        targets = SoftTargets(logits, temperature)
        if top_k is not None and top_k < logits.shape[1]:
            targets = keep_top(logits, top_k, temperature)
        _store(folder, {"kept": targets.kept, "rest": targets.rest, "top": targets.top})

    def mapped(name: str) -> Any:
        path = folder / f"{name}.npy"
        return np.load(path, mmap_mode="r") if path.is_file() else None

    return SoftTargets(mapped("top"), temperature, mapped("kept"), mapped("rest"))


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


def _store(folder: Path, arrays: dict[str, NDArray[Any] | None]) -> None:
    """Write the arrays, the one that is looked for last."""
    with guard_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in arrays.items():
            if array is None:
                continue
            part = folder / f"{name}.{os.getpid()}.part"
            with part.open("wb") as stream:
                np.save(stream, array)
            part.replace(folder / f"{name}.npy")
