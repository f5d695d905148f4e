"""Perplexity and memory along a text that is many times longer than the window through which it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetf.runtime.decode.score import Tick, log_softmax
from edgetf.runtime.decode.session import DecoderSession, Ids
from edgetf.runtime.decode.streaming import Reader, Window
from edgetf.runtime.memory import rss_bytes

_LOOKS = 50  # at the memory, along the text


@dataclass(frozen=True)
class StreamScores:
    """Nats of each token but the first, (T - 1,), and the memory held, by how many tokens were read."""

    nll: NDArray[np.float32]
    rss_bytes: tuple[tuple[int, int], ...]  # tokens read, bytes; empty where the system does not tell

    def perplexity(self, start: int, end: int) -> float:
        """Of the tokens with these numbers, counted from the first that has a score."""
        return math.exp(float(self.nll[start:end].mean(dtype=np.float64)))


def score_stream(session: DecoderSession, ids: Ids, window: Window, tick: Tick | None = None) -> StreamScores:
    """Scores of one text (T,) of any length, read through a window.

    Raises:
        ConfigError: the window is larger than the model's cache.
        ParityError: the logits are not finite.
    """
    ids = np.asarray(ids, dtype=np.int64)
    nll = np.zeros(max(0, len(ids) - 1), dtype=np.float32)
    looks: list[tuple[int, int]] = []
    done, step = 0, max(1, len(nll) // _LOOKS)
    for logits in Reader(session, window).read(ids[:-1]):
        nexts = ids[done + 1 : done + 1 + len(logits)]
        nll[done : done + len(logits)] = -log_softmax(logits)[np.arange(len(logits)), nexts]
        done += len(logits)
        held = rss_bytes() if done >= step * len(looks) + window.size else None  # not before the cache is full
        if held is not None:
            looks.append((done, held))
        if tick is not None:
            tick(done, len(nll))
    return StreamScores(nll, tuple(looks))
