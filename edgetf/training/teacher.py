"""The teacher's logits, computed once for a set of rows and kept on disk, keyed by teacher and rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgetf.core.artifact import key_of
from edgetf.core.files import guard_disk
from edgetf.core.places import cache_folder
from edgetf.models.families import family_of
from edgetf.runtime.encoder import Encoder
from edgetf.training.batches import Rows, in_order
from edgetf.training.loop import Report


def takes_token_types(model: Any) -> bool:
    """Whether the model has an input for token types."""
    return family_of(model.config.model_type).takes_token_types


def infer(model: Any, rows: Rows, encoder: Encoder, report: Report | None = None) -> NDArray[np.float32]:
    """Logits (P, C) of every piece."""
    model.eval()
    device = next(model.parameters()).device
    logits = np.zeros((len(rows), model.config.num_labels), dtype=np.float32)
    done = 0
    with torch.inference_mode():
        for positions, batch in in_order(rows, encoder):
            output = model(**batch.to(device).inputs(takes_token_types(model))).logits
            logits[positions] = output.float().cpu().numpy()
            done += len(positions)
            if report is not None:
                report(done, len(rows), "teacher's logits")
    return logits


def by_row(logits: NDArray[np.float32], rows: Rows) -> NDArray[np.float64]:
    """Mean of a row's pieces: (P, C) to (N, C)."""
    sources = np.asarray(rows.sources)
    sums = np.zeros((sources.max() + 1, logits.shape[1]))
    np.add.at(sums, sources, logits)
    return np.asarray(sums / np.bincount(sources)[:, None])


def accuracy(model: Any, rows: Rows, encoder: Encoder) -> float:
    """Share of the rows that the model classifies right."""
    logits = by_row(infer(model, rows, encoder), rows)
    labels = dict(zip(rows.sources, rows.labels, strict=True))
    return float(np.mean([logits[row].argmax() == label for row, label in labels.items()]))


def cached_logits(
    model: Any, teacher_digest: str, rows: Rows, encoder: Encoder, fingerprint: str, report: Report
) -> NDArray[np.float32]:
    """The teacher's logits (P, C), memory-mapped from the cache, where they are written if they are not yet there."""
    key = key_of([teacher_digest, fingerprint, len(rows), encoder.max_length, encoder.long_texts])
    path = cache_folder() / "teacher-logits" / f"{key[:24]}.npy"
    if not path.is_file():
        _store(path, infer(model, rows, encoder, report))
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return mapped


def _store(path: Path, logits: NDArray[np.float32]) -> None:
    with guard_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as stream:
            np.save(stream, logits)
        part.replace(path)
