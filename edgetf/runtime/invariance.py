"""Whether an answer depends on what else is in the batch: on other texts, or on padding.

An app may run texts one by one, another in batches; both should say the same. Where a runtime scales activations anew
for every input, it takes one scale for the whole batch, so that a text's answer shifts a little with its mates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgetf.core.metrics import Floats
from edgetf.runtime.backend import Session, fitting_length
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.inputs import Piece

MATES = 8  # texts of a batch


@dataclass(frozen=True)
class Shifts:
    """The largest change of an answer, in standard deviations of all answers; None where a session takes no other
    batch or length.
    """

    batch: float | None
    padding: float | None


def shifts(session: Session, encoder: Encoder, texts: Sequence[str], pairs: Sequence[str] | None) -> Shifts:
    """How far answers move when the first pieces of these texts, each run alone, get mates, or padding to the end."""
    pieces = [parts[0] for parts in encoder.pieces(texts, pairs)]
    alone = [_run(session, encoder, [piece], len(piece.input_ids)) for piece in pieces]
    scale = float(np.std(np.concatenate([answer.ravel() for answer in alone]))) or 1.0
    together: list[Floats] = []
    for start in range(0, len(pieces), MATES):
        mates = pieces[start : start + MATES]
        together += [row[None] for row in _run(session, encoder, mates, max(len(piece.input_ids) for piece in mates))]
    longest = encoder.max_length if session.lengths is None else session.lengths[-1]
    padded = [_run(session, encoder, [piece], longest) for piece in pieces]
    fixed = session.lengths is not None
    return Shifts(
        None if fixed else _largest(alone, together) / scale,  # a fixed batch of one has no mates
        None if fixed and len(session.lengths or ()) == 1 else _largest(alone, padded) / scale,
    )


def _run(session: Session, encoder: Encoder, pieces: list[Piece], tokens: int) -> Floats:
    """Answers (B, C), or (B, T, C), of pieces padded to so many tokens, or to what the session takes."""
    return session.run(encoder.batch(pieces, fitting_length(session.lengths, tokens)))


def _largest(before: list[Floats], after: list[Floats]) -> float:
    """The largest change; where every token has an answer, of the tokens that both have."""
    changes = []
    for one, other in zip(before, after, strict=True):
        kept = other[:, : one.shape[1]] if one.ndim == 3 else other
        changes.append(float(np.abs(one - kept).max()))
    return max(changes)
