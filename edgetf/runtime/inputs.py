"""What a model reads: token ids in pieces, and padded batches of them. A device needs no tokenizer for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import ParityError

Ids = list[int]


@dataclass(frozen=True)
class Piece:
    """The ids of one input and their token types, both of length T; `words` begin here, by token and number."""

    input_ids: Ids
    token_type_ids: Ids
    words: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Batch:
    """Padded inputs: three int64 arrays of shape (B, T)."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]

    def named(self, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The arrays that a model asks for.

        Raises:
            ParityError: it asks for another.
        """
        known = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "token_type_ids": self.token_type_ids,
        }
        strange = [name for name in names if name not in known]
        if strange:
            raise ParityError(f"the model asks for {', '.join(strange)}; allowed: {', '.join(known)}")
        return {name: known[name] for name in names}


def padded(pieces: Sequence[Piece], pad_id: int, length: int | None = None) -> Batch:
    """Pad pieces to `length` tokens, or to the longest; a longer piece is cut.

    >>> padded([Piece([5, 6], [0, 0]), Piece([7], [1])], pad_id=9).input_ids.tolist()
    [[5, 6], [7, 9]]
    """
    width = length or max(len(piece.input_ids) for piece in pieces)
    ids = np.full((len(pieces), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    types = np.zeros_like(ids)
    for row, piece in enumerate(pieces):
        n = min(len(piece.input_ids), width)
        ids[row, :n] = piece.input_ids[:n]
        types[row, :n] = piece.token_type_ids[:n]
        mask[row, :n] = 1
    return Batch(ids, mask, types)


@dataclass(frozen=True)
class Inputs:
    """N texts as a model reads them: the pieces of each, and how many words each has where every word is answered."""

    pieces: list[list[Piece]]
    words: list[int] | None = None

    def first(self) -> Inputs:
        """The first text alone."""
        return Inputs(self.pieces[:1], self.words and self.words[:1])

    def to_json(self) -> dict[str, Any]:
        """As a request carries it; token types that are all 0 are left out."""
        rows = [[[p.input_ids, p.token_type_ids if any(p.token_type_ids) else None, p.words] for p in row]
                for row in self.pieces]  # fmt: skip
        return {"pieces": rows, "words": self.words}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Inputs:
        """What `to_json` wrote.

        >>> one = Inputs([[Piece([5, 6], [0, 0], ((0, 0),))]], [1])
        >>> Inputs.from_json(one.to_json()) == one
        True
        """
        rows = [[Piece(ids, types or [0] * len(ids), tuple((token, word) for token, word in words))
                 for ids, types, words in row] for row in record["pieces"]]  # fmt: skip
        return cls(rows, record["words"])
