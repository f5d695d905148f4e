"""Text to token ids with the artifact's own `tokenizer.json`; long texts are cut, or read in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError, needs
from edgetf.runtime.inputs import Batch, Inputs, Piece, padded
from edgetf.runtime.words import first_tokens, words_of

TOKENIZER = "tokenizer.json"


def open_tokenizer(folder: Path) -> Any:
    """The `tokenizer.json` in a folder, as it is there.

    Raises:
        ArtifactError: it is missing or broken.
    """
    with needs("ort"):
        from tokenizers import Tokenizer
    path = folder / TOKENIZER
    if not path.is_file():
        raise ArtifactError(f"{path}: not found; the artifact needs its tokenizer")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception for a broken file
        raise ArtifactError(f"{path}: not a tokenizer ({error})") from None


class Encoder:
    """A tokenizer with the recipe's length rule."""

    def __init__(
        self, folder: Path, max_length: int, long_texts: str = "truncate", pad_id: int = 0, by_word: bool = False
    ) -> None:
        """Read ``tokenizer.json`` in `folder`; with `by_word` the pieces say where words begin.

        Raises:
            ArtifactError: it is missing or broken.
        """
        self._tokenizer = open_tokenizer(folder)
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

    def inputs(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Inputs:
        """The texts as a model reads them."""
        return Inputs(self.pieces(texts, pairs), [len(words_of(text)) for text in texts] if self.by_word else None)

    def batch(self, pieces: Sequence[Piece], length: int | None = None) -> Batch:
        """Pad pieces to `length` tokens, or to the longest; a longer piece is cut."""
        return padded(pieces, self.pad_id, length)
