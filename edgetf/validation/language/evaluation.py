"""`evaluation.npz`: held-out tokens with what the teacher says of them, so that a device needs no teacher to compare.

The teacher is its fp32 ONNX file in its runtime. Of each next-token distribution the k most likely tokens are kept;
what is left of the probability stands for all the others together.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import ArtifactError
from edgetf.core.metrics import Floats

EVALUATION = "evaluation.npz"
TOP_K = 64
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Teacher:
    """What the teacher says behind each token of (N, T - 1) but the last of a block."""

    nll: Floats  # (N, T - 1): nats, of the token that follows
    top_ids: Ids  # (N, T - 1, k), the likeliest first
    top_logprobs: Floats  # (N, T - 1, k)

    @property
    def argmax(self) -> Ids:
        """The token that it would write, (N, T - 1)."""
        return self.top_ids[..., 0]


@dataclass(frozen=True)
class Exam:
    """N blocks of T tokens, whose first one nothing predicts; `sizes` (N,) are the UTF-8 bytes of the others' text."""

    ids: Ids
    sizes: NDArray[np.int64]
    teacher: Teacher

    def some(self, count: int) -> Exam:
        """So many of the blocks, spread evenly over all."""
        chosen = np.unique(np.linspace(0, len(self.ids) - 1, count).astype(int))
        said = self.teacher
        teacher = Teacher(said.nll[chosen], said.top_ids[chosen], said.top_logprobs[chosen])
        return Exam(self.ids[chosen], self.sizes[chosen], teacher)


def write_exam(folder: Path, exam: Exam) -> None:
    """Write the file."""
    with (folder / EVALUATION).open("wb") as stream:
        np.savez_compressed(
            stream,
            ids=exam.ids.astype(np.int32),
            sizes=exam.sizes.astype(np.int64),
            nll=exam.teacher.nll.astype(np.float32),
            top_ids=exam.teacher.top_ids.astype(np.int32),
            top_logprobs=exam.teacher.top_logprobs.astype(np.float32),
        )


def read_exam(folder: Path, vocab_size: int) -> Exam:
    """Read the file for a model with so many tokens.

    Raises:
        ArtifactError: missing, broken, or of another vocabulary.
    """
    path = folder / EVALUATION
    if not path.is_file():
        raise ArtifactError(f"{path}: not found; give the teacher's fp32 ONNX folder of the run with --reference")
    try:
        with np.load(path, allow_pickle=False) as held:
            exam = _checked({name: held[name] for name in held.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the recipe again") from None
    if exam.ids.size and not 0 <= int(exam.ids.min()) <= int(exam.ids.max()) < vocab_size:
        raise ArtifactError(
            f"{path}: tokens up to {int(exam.ids.max())}, the model knows {vocab_size}; "
            "give the teacher of this model, with its vocabulary"
        )
    return exam


def _checked(arrays: dict[str, NDArray[np.generic]]) -> Exam:
    """The arrays of a file, whose shapes fit together.

    Raises:
        KeyError, ValueError: they do not.
    """
    ids, sizes = np.asarray(arrays["ids"], dtype=np.int32), np.asarray(arrays["sizes"], dtype=np.int64)
    if ids.ndim != 2 or ids.shape[0] < 1 or ids.shape[1] < 2 or sizes.shape != ids.shape[:1]:
        raise ValueError(f"ids {ids.shape} and sizes {sizes.shape} do not fit together")
    teacher = Teacher(
        np.asarray(arrays["nll"], dtype=np.float64),
        np.asarray(arrays["top_ids"], dtype=np.int32),
        np.asarray(arrays["top_logprobs"], dtype=np.float64),
    )
    predicted = (ids.shape[0], ids.shape[1] - 1)
    shapes = (teacher.nll.shape, teacher.top_ids.shape[:2], teacher.top_logprobs.shape[:2])
    if any(shape != predicted for shape in shapes) or teacher.top_ids.shape != teacher.top_logprobs.shape:
        raise ValueError(f"the teacher's {', '.join(map(str, shapes))} do not fit ids {ids.shape}")
    return Exam(ids, sizes, teacher)
