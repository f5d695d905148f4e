"""Texts to logits through a session, piece by piece; the logits of a text are the mean over its pieces.

Where every word has an answer, it is that of the word's first token, in the piece in which the word begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetf.core.errors import ParityError
from edgetf.core.metrics import Floats
from edgetf.core.task_names import CLASSIFICATION, TaskName, by_word
from edgetf.runtime.backend import Session, fitting_length
from edgetf.runtime.encoder import Encoder, Piece
from edgetf.runtime.words import word_answers, words_of

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Model:
    """What the runner needs to know of a deployable model."""

    name: str
    folder: Path
    model_file: str
    backend: str
    max_length: int
    long_texts: str = "truncate"
    pad_id: int = 0
    task: TaskName = CLASSIFICATION

    def encoder(self) -> Encoder:
        """Its tokenizer with its length rule."""
        return Encoder(self.folder, self.max_length, self.long_texts, self.pad_id, by_word(self.task))


def run_piece(session: Session, encoder: Encoder, piece: Piece) -> Floats:
    """Logits (C,) of one piece, or (T, C) of its tokens, as an app would run it.

    That is with batch 1, and with no more padding than the session needs.
    """
    batch = encoder.batch([piece], fitting_length(session.lengths, len(piece.input_ids)))
    return np.asarray(session.run(batch)[0])


def classify(
    session: Session,
    encoder: Encoder,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    tick: Tick | None = None,
) -> Floats:
    """Logits (N, C) of N texts, or of the words of all texts.

    Raises:
        ParityError: a logit is not a finite number.
    """
    rows: list[Floats] = []
    for done, pieces in enumerate(encoder.pieces(texts, pairs), start=1):
        outputs = [run_piece(session, encoder, piece) for piece in pieces]
        if encoder.by_word:
            rows.extend(word_answers(outputs, [piece.words for piece in pieces], len(words_of(texts[done - 1]))))
        else:
            rows.append(np.mean(outputs, axis=0))
        if tick is not None:
            tick(done, len(texts))
    logits = np.asarray(rows, dtype=np.float64)
    broken = int((~np.isfinite(logits)).any(axis=1).sum()) if len(rows) else 0
    if broken:
        what = "words" if encoder.by_word else "texts"
        raise ParityError(f"{broken} of {len(rows)} {what} give NaN or infinite logits; the model is broken")
    return logits
