"""Tokens that continue a text, one after another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from edgetf.core.errors import ArtifactError, ConfigError
from edgetf.runtime.decode.sampling import Sampler, Sampling
from edgetf.runtime.decode.session import DecoderSession, Ids, Logits
from edgetf.runtime.decode.streaming import Reader, Window

GREEDY = Sampling()


def generate(
    session: DecoderSession,
    ids: Sequence[int] | Ids,
    sampling: Sampling = GREEDY,
    max_new_tokens: int = 64,
    stop_ids: Collection[int] | None = None,
    window: Window | None = None,
) -> Iterator[int]:
    """The tokens after the prompt `ids`.

    It ends after `max_new_tokens`, after one of `stop_ids` (None: those of the model), which is given too, as by
    `generate` of transformers, or when the model has no position left and there is no window.

    Raises:
        ArtifactError: a token is none of the model's.
        ConfigError: the prompt is empty, or longer than the model can read without a window.
        ParityError: the logits are not finite.
    """
    return continued(session, [np.asarray(ids, dtype=np.int64)], sampling, max_new_tokens, stop_ids, window)


def continued(
    session: DecoderSession,
    parts: Iterable[Ids],
    sampling: Sampling = GREEDY,
    max_new_tokens: int = 64,
    stop_ids: Collection[int] | None = None,
    window: Window | None = None,
) -> Iterator[int]:
    """As `generate` after a prompt that comes in parts; with a window it may be of any length, in constant memory."""
    reader, sampler = Reader(session, window), Sampler(sampling, session.facts.vocab_size)
    stops = session.facts.eos_ids if stop_ids is None else stop_ids
    logits = _read_all(reader, sampler, parts, session.facts.vocab_size)
    for count in range(1, max_new_tokens + 1):
        token = sampler.choose(logits)
        yield token
        if token in stops or count == max_new_tokens or reader.room == 0:
            return
        logits = reader.last(np.array([token]))


def _read_all(reader: Reader, sampler: Sampler, parts: Iterable[Ids], vocab_size: int) -> Logits:
    """Logits (V,) behind the whole prompt."""
    logits: Logits | None = None
    for ids in parts:
        if len(ids) and not 0 <= ids.min() <= ids.max() < vocab_size:
            raise ArtifactError(
                f"token {ids.max()}: the model has {vocab_size}; its tokenizer belongs to another model"
            )
        if reader.room is not None and len(ids) > reader.room:
            raise ConfigError(f"prompt: got {len(ids)} tokens, allowed: {reader.room} without a window; set a window")
        sampler.see(ids)
        logits = reader.last(ids) if len(ids) else logits
    if logits is None:
        raise ConfigError("prompt: got no token, allowed: one or more; give a text")
    return logits
