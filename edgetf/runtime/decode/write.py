"""A text as it is continued: pieces that can be shown, and what ended it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgetf.runtime.decode.text import Speller, StopFinder, TextCodec

StoppedBy = Literal["eos", "stop", "max_new_tokens", "max_length", "interrupt"]


@dataclass
class Continuation:
    """What is written after a prompt; iterate over `pieces` to write it."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    stopped_by: StoppedBy = "interrupt"  # until it ends by itself
    stop: str | None = None  # the stop string, where one ended it

    def pieces(
        self,
        tokens: Iterator[int],
        codec: TextCodec,
        before: Sequence[int] = (),
        eos_ids: Collection[int] = (),
        max_new_tokens: int | None = None,
        stops: Sequence[str] = (),
    ) -> Iterator[str]:
        """The text of `tokens`, which follow the tokens `before`, up to a stop string, piece by piece.

        The tokens are taken one at a time, only when the text before has been taken.
        """
        speller, finder = Speller(codec, before), StopFinder(stops)
        for token in tokens:
            self.tokens.append(token)
            yield from self._shown(finder.add(speller.add(token)))
            if finder.found is not None:
                self.stopped_by, self.stop = "stop", finder.found
                return
        yield from self._shown(finder.add(speller.end()) + finder.end())
        if self.tokens and self.tokens[-1] in eos_ids:
            self.stopped_by = "eos"
        elif len(self.tokens) == max_new_tokens:
            self.stopped_by = "max_new_tokens"
        else:
            self.stopped_by = "max_length"

    def _shown(self, text: str) -> Iterator[str]:
        if text:
            self.text += text
            yield text
