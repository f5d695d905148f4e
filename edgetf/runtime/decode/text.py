"""Text to the tokens of a decoder, and tokens back to text as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edgetf.core.decoder import DecoderFacts
from edgetf.runtime.decode.session import Ids
from edgetf.runtime.encoder import open_tokenizer

UNFINISHED = "\ufffd"  # what a decoder of bytes gives for a part of a character
_LONGEST = 3  # bytes of a character that lacks its last
_CONTEXT = 8  # tokens before the first new one; some tokenizers drop the space before the first token of a text


class TextCodec:
    """The artifact's own `tokenizer.json`, without the special tokens that it would add: those stand in the facts."""

    def __init__(self, folder: Path, facts: DecoderFacts) -> None:
        """Read it.

        Raises:
            ArtifactError: it is missing or broken.
        """
        self._tokenizer = open_tokenizer(folder)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._first = [] if facts.bos_id is None else [facts.bos_id]

    def ids(self, text: str, begins: bool = True) -> Ids:
        """Tokens (T,) of a text; those of one that begins have the model's first token before them."""
        first = self._first if begins else []
        return np.array([*first, *self._tokenizer.encode(text, add_special_tokens=False).ids], dtype=np.int64)

    def parts(self, texts: Iterable[str]) -> Iterator[Ids]:
        """Tokens of one text that comes in parts."""
        for number, text in enumerate(texts):
            yield self.ids(text, begins=number == 0)

    def text(self, ids: Sequence[int]) -> str:
        """Text of tokens, without the special ones."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


class Speller:
    """Text of tokens as they come, never half a character: what is not yet whole waits for the next token."""

    def __init__(self, codec: TextCodec, before: Sequence[int] = ()) -> None:
        """`before`: tokens that the new ones follow."""
        self._codec = codec
        self._ids = list(before)[-_CONTEXT:]
        self._given = len(codec.text(self._ids).rstrip(UNFINISHED))  # characters that are out, or stood before

    def add(self, token: int) -> str:
        """The text that is certain with this token."""
        self._ids.append(token)
        text = self._codec.text(self._ids)
        whole = text.rstrip(UNFINISHED)
        if len(text) - len(whole) > _LONGEST:  # so many broken bytes become no character any more
            whole = text[:-_LONGEST]
        new, self._given = whole[self._given :], max(self._given, len(whole))
        if len(whole) == len(text) and len(self._ids) > 2 * _CONTEXT:
            self._ids = self._ids[-_CONTEXT:]
            self._given = len(self._codec.text(self._ids))
        return new

    def end(self) -> str:
        """What still waits: bytes that never became a character."""
        rest = self._codec.text(self._ids)[self._given :]
        self._given += len(rest)
        return rest


class StopFinder:
    """Holds back what may be the beginning of a stop string, and cuts the text before one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._waiting = ""
        self.found: str | None = None

    def add(self, text: str) -> str:
        """What can be shown once `text` has come; after a stop string nothing more.

        >>> finder = StopFinder(["###"])
        >>> [finder.add("one #"), finder.add("# two"), finder.add(" ###three"), finder.found]
        ['one ', '## two', ' ', '###']
        """
        if self.found is not None:
            return ""
        self._waiting += text
        places = [(self._waiting.find(stop), stop) for stop in self._stops if stop in self._waiting]
        if places:
            place, self.found = min(places)
            shown, self._waiting = self._waiting[:place], ""
            return shown
        return self._release(len(self._waiting) - self._held())

    def end(self) -> str:
        """What was held back for nothing."""
        return self._release(len(self._waiting))

    def _release(self, count: int) -> str:
        shown, self._waiting = self._waiting[:count], self._waiting[count:]
        return shown

    def _held(self) -> int:
        """Characters at the end that begin a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for count in range(min(longest, len(self._waiting)), 0, -1):
            if any(stop.startswith(self._waiting[-count:]) for stop in self._stops):
                return count
        return 0
