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
class Corpus:
    """N blocks of T tokens, whose first one nothing predicts; `sizes` (N,) are the UTF-8 bytes of the others' text.

    `teacher` is None where there is no teacher to compare with.
    """

    ids: Ids
    sizes: NDArray[np.int64]
    teacher: Teacher | None = None

    @property
    def tokens(self) -> int:
        """How many are predicted."""
        return int(self.ids.shape[0] * (self.ids.shape[1] - 1))


def write_corpus(folder: Path, corpus: Corpus) -> None:
    """Write the file."""
    arrays = {"ids": corpus.ids.astype(np.int32), "sizes": corpus.sizes.astype(np.int64)}
    if corpus.teacher is not None:
        said = corpus.teacher
        arrays |= {
            "nll": said.nll.astype(np.float32),
            "top_ids": said.top_ids.astype(np.int32),
            "top_logprobs": said.top_logprobs.astype(np.float32),
        }
    with (folder / EVALUATION).open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its keywords are arrays


def read_corpus(folder: Path, vocab_size: int) -> Corpus:
    """Read the file for a model with so many tokens.

    Raises:
        ArtifactError: missing, broken, or of another vocabulary.
    """
    path = folder / EVALUATION
    if not path.is_file():
        raise ArtifactError(f"{path}: not found; give the teacher's fp32 ONNX folder of the run with --reference")
    try:
        with np.load(path, allow_pickle=False) as held:
            corpus = _checked({name: held[name] for name in held.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the recipe again") from None
    if corpus.ids.size and not 0 <= int(corpus.ids.min()) <= int(corpus.ids.max()) < vocab_size:
        raise ArtifactError(
            f"{path}: tokens up to {int(corpus.ids.max())}, the model knows {vocab_size}; "
            "give the teacher of this model, with its vocabulary"
        )
    return corpus


def _checked(arrays: dict[str, NDArray[np.generic]]) -> Corpus:
    """The arrays of a file, whose shapes fit together.

    Raises:
        KeyError, ValueError: they do not.
    """
    ids, sizes = np.asarray(arrays["ids"], dtype=np.int32), np.asarray(arrays["sizes"], dtype=np.int64)
    if ids.ndim != 2 or ids.shape[0] < 1 or ids.shape[1] < 2 or sizes.shape != ids.shape[:1]:
        raise ValueError(f"ids {ids.shape} and sizes {sizes.shape} do not fit together")
    if "nll" not in arrays:
        return Corpus(ids, sizes)
    teacher = Teacher(
        np.asarray(arrays["nll"], dtype=np.float64),
        np.asarray(arrays["top_ids"], dtype=np.int32),
        np.asarray(arrays["top_logprobs"], dtype=np.float64),
    )
    predicted = (ids.shape[0], ids.shape[1] - 1)
    shapes = (teacher.nll.shape, teacher.top_ids.shape[:2], teacher.top_logprobs.shape[:2])
    if any(shape != predicted for shape in shapes) or teacher.top_ids.shape != teacher.top_logprobs.shape:
        raise ValueError(f"the teacher's {', '.join(map(str, shapes))} do not fit ids {ids.shape}")
    return Corpus(ids, sizes, teacher)
