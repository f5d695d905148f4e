"""Entities in a row of tags, and how many of them two rows share.

A tag is ``O``, ``B-TYPE`` (an entity begins) or ``I-TYPE`` (it goes on): IOB2, Sang & Veenstra 1999. As CoNLL-2003 was
evaluated (Sang & De Meulder 2003), an ``I-TYPE`` that follows no entity of its type begins one, so that the older IOB1
is read too, and an entity is right only if its type and both its ends are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

OUTSIDE = "O"
Span = tuple[str, int, int]  # type, first word, and the word after the last
Counts = NDArray[np.int64]


def spans(tags: Sequence[str]) -> list[Span]:
    """The entities of a row, first one first.

    >>> spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    found: list[Span] = []
    begun: tuple[str, int] | None = None
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, kind = tag.partition("-")
        goes_on = begun is not None and mark == "I" and kind == begun[0]
        if begun is not None and not goes_on:
            found.append((begun[0], begun[1], place))
            begun = None
        if begun is None and mark in {"B", "I"}:
            begun = (kind, place)
    return found


def counts(predicted: Sequence[str], wanted: Sequence[str]) -> tuple[int, int, int]:
    """Entities that are right, that were predicted, and that there are, in one row.

    >>> counts(["B-PER", "I-PER", "B-LOC"], ["B-PER", "O", "B-LOC"])
    (1, 2, 2)
    """
    ours, theirs = set(spans(predicted)), set(spans(wanted))
    return len(ours & theirs), len(ours), len(theirs)


def micro_f1(found: Counts) -> NDArray[np.float64]:
    """2 · right / (predicted + there), of counts (…, 3); NaN where neither side has an entity.

    >>> float(micro_f1(np.array([1, 2, 2])))
    0.5
    """
    both = found[..., 1] + found[..., 2]
    return np.where(both > 0, 2 * found[..., 0] / np.maximum(both, 1), np.nan)
