"""Texts to logits through a session, piece by piece; the logits of a text are the mean over its pieces.

Where every word has an answer, it is that of the word's first token, in the piece in which the word begins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgetf.core.errors import ParityError
from edgetf.core.metrics import Floats
from edgetf.runtime.backend import Session, fitting_length
from edgetf.runtime.inputs import Inputs, Piece, padded
from edgetf.runtime.words import word_answers

Tick = Callable[[int, int], None]


def run_piece(session: Session, pad_id: int, piece: Piece) -> Floats:
    """Logits (C,) of one piece, or (T, C) of its tokens, as an app would run it.

    That is with batch 1, and with no more padding than the session needs.
    """
    batch = padded([piece], pad_id, fitting_length(session.lengths, len(piece.input_ids)))
    return np.asarray(session.run(batch)[0])


def classify(session: Session, inputs: Inputs, pad_id: int, tick: Tick | None = None) -> Floats:
    """Logits (N, C) of N texts, or of the words of all texts.

    Raises:
        ParityError: a logit is not a finite number.
    """
    rows: list[Floats] = []
    for done, pieces in enumerate(inputs.pieces, start=1):
        outputs = [run_piece(session, pad_id, piece) for piece in pieces]
        if inputs.words is None:
            rows.append(np.mean(outputs, axis=0))
        else:
            rows.extend(word_answers(outputs, [piece.words for piece in pieces], inputs.words[done - 1]))
        if tick is not None:
            tick(done, len(inputs.pieces))
    logits = np.asarray(rows, dtype=np.float64)
    broken = int((~np.isfinite(logits)).any(axis=1).sum()) if len(rows) else 0
    if broken:
        what = "texts" if inputs.words is None else "words"
        raise ParityError(f"{broken} of {len(rows)} {what} give NaN or infinite logits; the model is broken")
    return logits
