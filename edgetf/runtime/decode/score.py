"""How well a decoder foresees a text: the negative log likelihood of each token, and how near it is to a teacher.

With z the logits behind the tokens before it, token t costs ``log sum exp(z) - z_t`` nats. The teacher's distribution
p is kept as its k likeliest tokens and one class for all others, so that ``KL(p || q) = sum p_i log(p_i / q_i)`` has
k + 1 terms. That is never more than over the whole vocabulary (Cover & Thomas 2006, 2.8), and nearly as much where
the rest of p is small.

Logits are never held for more than a part of a block at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.metrics import Floats
from edgetf.runtime.decode.session import DecoderSession, Logits
from edgetf.runtime.decode.streaming import Reader

Tick = Callable[[int, int], None]
TINY = 1e-12  # least probability of the class of the others


@dataclass(frozen=True)
class TopTokens:
    """The k likeliest tokens behind each token but a block's last, likeliest first; both arrays (N, T - 1, k)."""

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """Of N blocks of T tokens; the first token of a block has no score. Arrays are (N, T - 1), in nats."""

    nll: NDArray[np.float32]
    argmax: NDArray[np.int32]
    kl: NDArray[np.float32] | None = None
    top: TopTokens | None = None


def score(
    session: DecoderSession,
    blocks: NDArray[np.integer[Any]],
    teacher: TopTokens | None = None,
    keep: int = 0,
    tick: Tick | None = None,
) -> Scores:
    """Scores of blocks (N, T), each read from an empty cache; the divergence from a teacher, and the `keep` likeliest
    tokens, where they are asked for. `tick` hears of the blocks that are done.

    Raises:
        ParityError: a block is longer than the model can read, or the logits are not finite.
    """
    count, length = blocks.shape[0], blocks.shape[1] - 1
    keep = min(keep, session.facts.vocab_size)
    nll = np.zeros((count, length), dtype=np.float32)
    argmax = np.zeros((count, length), dtype=np.int32)
    kl = None if teacher is None else np.zeros((count, length), dtype=np.float32)
    top = None
    if keep:
        shape = (count, length, keep)
        top = TopTokens(np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32))
    for row, block in enumerate(blocks.astype(np.int64)):
        done = 0
        for logits in Reader(session).read(block[:-1]):
            part = slice(done, done + len(logits))
            logprobs = log_softmax(logits)
            nll[row, part] = -logprobs[np.arange(len(logits)), block[done + 1 : done + 1 + len(logits)]]
            argmax[row, part] = logits.argmax(axis=-1)
            if kl is not None and teacher is not None:
                kl[row, part] = divergence(teacher.ids[row, part], teacher.logprobs[row, part], logprobs)
            if top is not None:
                top.ids[row, part], top.logprobs[row, part] = likeliest(logprobs, keep)
            done += len(logits)
        if tick is not None:
            tick(row + 1, count)
    return Scores(nll, argmax, kl, top)


def log_softmax(logits: Logits) -> Logits:
    """Log probabilities (T, V) in float32; the sum is taken in float64.

    >>> [round(float(each), 4) for each in log_softmax(np.zeros((1, 2), dtype=np.float32))[0]]
    [-0.6931, -0.6931]
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64))
    return np.asarray(shifted - total.astype(np.float32))


def likeliest(logprobs: Logits, count: int) -> tuple[NDArray[np.int32], Logits]:
    """The `count` likeliest tokens of each row (T, V), likeliest first, and their log probabilities; both (T, count).

    >>> ids, logprobs = likeliest(np.log(np.array([[0.2, 0.5, 0.3]], dtype=np.float32)), 2)
    >>> ids.tolist()
    [[1, 2]]
    """
    ids = np.argpartition(-logprobs, count - 1, axis=-1)[:, :count]
    order = np.argsort(-np.take_along_axis(logprobs, ids, axis=-1), axis=-1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=-1)
    return ids.astype(np.int32), np.take_along_axis(logprobs, ids, axis=-1)


def divergence(ids: NDArray[np.int32], teacher: Logits, student: Logits) -> Floats:
    """KL (T,) of the teacher's k likeliest tokens (T, k), and all others as one, to the student's (T, V).

    >>> both = np.log(np.array([[0.5, 0.25, 0.25]], dtype=np.float32))
    >>> divergence(np.array([[0]], dtype=np.int32), both[:, :1], both).round(6).tolist()
    [0.0]
    """
    p = teacher.astype(np.float64)
    q = np.take_along_axis(student, ids.astype(np.int64), axis=-1).astype(np.float64)
    rest_p = np.clip(1 - np.exp(p).sum(axis=-1), TINY, 1)
    rest_q = np.clip(1 - np.exp(q).sum(axis=-1), TINY, 1)
    return np.asarray((np.exp(p) * (p - q)).sum(axis=-1) + rest_p * np.log(rest_p / rest_q))
