"""Reading tokens into a cache, of a text of any length where there is a window.

Streaming attention (Xiao et al. 2024): the first tokens of a text, its sinks, take up attention that has nowhere else
to go, and a model falls apart without them. So when the window is full the sinks stay, the oldest of the others go, and
the rest move up: positions are those in the cache, and stay within what the model was trained for. A block of tokens
goes at a time, so that keys are turned once for a block, not for every token.

Learned positions cannot be turned: there the kept tokens are read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetf.core.errors import ConfigError
from edgetf.runtime.decode.session import DecoderSession, Ids, Logits

SINKS = 4  # of the paper
_BLOCKS = 8  # of a window
_TOKENS = 512  # read at once, at most
_NUMBERS = 1 << 24  # logits of one reading, at most: 64 MiB


@dataclass(frozen=True)
class Window:
    """At most `size` tokens, of which the first `sinks` stay; the rest goes in blocks."""

    size: int
    sinks: int = SINKS

    def __post_init__(self) -> None:
        """Raises ConfigError where nothing but sinks would fit."""
        if self.sinks < 0:
            raise ConfigError(f"sinks: got {self.sinks}, allowed: 0 or more")
        if self.size < self.sinks + 2 * self.block:
            least = self.sinks + 2 * self.block
            raise ConfigError(f"window: got {self.size}, allowed: {least} or more with {self.sinks} sinks")

    @property
    def block(self) -> int:
        """Tokens that go when it is full."""
        return max(1, self.size // _BLOCKS)

    def kept(self, length: int) -> Ids:
        """Which of so many tokens stay.

        >>> Window(8, sinks=2).kept(8)
        array([0, 1, 3, 4, 5, 6, 7])
        """
        return np.concatenate([np.arange(self.sinks), np.arange(self.sinks + self.block, length)])


class Reader:
    """One text as a model has read it so far."""

    def __init__(self, session: DecoderSession, window: Window | None = None) -> None:
        """Raises ConfigError where the window is larger than the cache."""
        if window is not None and session.capacity is not None and window.size > session.capacity:
            most = session.capacity
            raise ConfigError(f"window: got {window.size}, allowed: the {most} tokens of this model, or fewer")
        self._session, self._window = session, window
        self._cache = session.start()
        self._most = max(1, min(_TOKENS, _NUMBERS // session.facts.vocab_size))
        self._ids = np.zeros(0, dtype=np.int64)  # in the cache; kept where keys cannot be turned

    @property
    def cache(self) -> Any:
        """What the session knows of the tokens read so far."""
        return self._cache

    @property
    def room(self) -> int | None:
        """Tokens that can still be read; None: any number."""
        if self._window is not None or self._session.capacity is None:
            return None
        return self._session.capacity - int(self._cache.length)

    def read(self, ids: Ids) -> Iterator[Logits]:
        """Logits (t, V) of one part of the tokens `ids` (T,) after another, in parts that bound the memory.

        Raises:
            ParityError: they are too many for a model without a window.
        """
        done = 0
        while done < len(ids):
            part = ids[done : done + self._fitting()]
            logits, self._cache = self._session.run(part, self._cache)
            if self._window is not None and self._session.facts.positions == "learned":
                self._ids = np.concatenate([self._ids, part])
            done += len(part)
            yield logits

    def last(self, ids: Ids) -> Logits:
        """Logits (V,) behind the last of the tokens `ids` (T,), T at least 1."""
        for logits in self.read(ids):
            last: Logits = logits[-1]
        return last

    def _fitting(self) -> int:
        """How many tokens can be read at once now; a full window gives up a block for them."""
        if self._window is None:
            return self._most
        if self._cache.length >= self._window.size:
            self._give_up(self._window.kept(int(self._cache.length)))
        return min(self._most, self._window.size - int(self._cache.length))

    def _give_up(self, kept: Ids) -> None:
        if self._session.facts.positions == "rope":
            self._cache = self._cache.keep(kept)
            return
        self._ids = self._ids[kept]
        self._cache = self._session.start()
        for start in range(0, len(self._ids), self._most):
            _, self._cache = self._session.run(self._ids[start : start + self._most], self._cache)
