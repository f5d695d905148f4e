"""Text to token ids with the artifact's own `tokenizer.json`; long texts are cut, or read in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import ArtifactError, ParityError, needs
from edgetf.runtime.words import first_tokens

TOKENIZER = "tokenizer.json"
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


class Encoder:
    """A tokenizer with the recipe's length rule."""

    def __init__(
        self, folder: Path, max_length: int, long_texts: str = "truncate", pad_id: int = 0, by_word: bool = False
    ) -> None:
        """Read ``tokenizer.json`` in `folder`; with `by_word` the pieces say where words begin.

        Raises:
            ArtifactError: it is missing or broken.
        """
        with needs("ort"):
            from tokenizers import Tokenizer
        path = folder / TOKENIZER
        if not path.is_file():
            raise ArtifactError(f"{path}: not found; the artifact needs its tokenizer")
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception for a broken file
            raise ArtifactError(f"{path}: not a tokenizer ({error})") from None
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.no_padding()
        self.max_length = max_length
        self.long_texts = long_texts
        self.pad_id = pad_id
        self.by_word = by_word

    def pieces(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[list[Piece]]:
        """The pieces of each text: one where it is cut, one or more where it is read in chunks."""
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encoded = self._tokenizer.encode_batch(inputs)
        result = []
        for text, first in zip(texts, encoded, strict=True):
            every = [first, *first.overflowing] if self.long_texts == "chunk" else [first]
            firsts = first_tokens(text, every) if self.by_word else [()] * len(every)
            result.append(
                [Piece(list(p.ids), list(p.type_ids), tuple(words)) for p, words in zip(every, firsts, strict=True)]
            )
        return result

    def batch(self, pieces: Sequence[Piece], length: int | None = None) -> Batch:
        """Pad pieces to `length` tokens, or to the longest; a longer piece is cut."""
        width = length or max(len(piece.input_ids) for piece in pieces)
        ids = np.full((len(pieces), width), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        types = np.zeros_like(ids)
        for row, piece in enumerate(pieces):
            n = min(len(piece.input_ids), width)
            ids[row, :n] = piece.input_ids[:n]
            types[row, :n] = piece.token_type_ids[:n]
            mask[row, :n] = 1
        return Batch(ids, mask, types)
