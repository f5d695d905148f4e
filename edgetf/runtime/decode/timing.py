"""How fast a decoder reads and writes: time to first token, prefill and decode tokens per second, by context length.

The prefill reads a context of n tokens from an empty cache and chooses the first token: that is the time to first
token. A decode step reads one token with n - 1 before it and chooses the next; it is run again and again on the same
cache, so that all samples are of one length. Two models take turns, run by run, as in `edgetf.runtime.timing`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from edgetf.core.errors import ConfigError
from edgetf.core.made import load_average, machine
from edgetf.core.metrics import percentile
from edgetf.runtime.conditions import conditions, snapshot
from edgetf.runtime.decode.model import DecoderModel
from edgetf.runtime.decode.session import DecoderSession, Ids
from edgetf.runtime.decode.streaming import Reader
from edgetf.runtime.memory import peak_rss_bytes
from edgetf.runtime.timing import Call, interleaved_ms, milliseconds
from edgetf.runtime.trust import doubts

PREFILLS = 5  # of a context length, after one that warms up
_ANY_IDS = 97  # where no text is given: the ids 3 … 99 over and over


@dataclass
class _Opened:
    """A model, what opening it cost, and the records of its context lengths."""

    model: DecoderModel
    session: DecoderSession
    load_ms: float
    words: Ids
    records: list[dict[str, Any]] = field(default_factory=list)

    def context(self, length: int) -> Ids:
        """So many tokens: the text over and over."""
        return np.resize(self.words, length)

    def prefill(self, length: int) -> None:
        """Read a context and choose the first token."""
        Reader(self.session).last(self.context(length)).argmax()

    def step(self, length: int) -> Call:
        """One decode step that reads the last token of a context, after a cache that stays as it is."""
        context, reader = self.context(length), Reader(self.session)
        for _ in reader.read(context[:-1]):
            pass
        ids, cache = context[-1:], reader.cache
        return lambda: self.session.run(ids, cache)[0][-1].argmax()


def step_of(record: dict[str, Any], request: dict[str, Any]) -> tuple[Call, DecoderSession]:
    """A decode step of the model in a `record`, at a context of `seq_len` tokens.

    Raises:
        EdgetfError: it cannot be opened, or not read so many tokens.
    """
    opened = _open(DecoderModel.from_json(record), request)
    return opened.step(request["seq_len"]), opened.session


def decode_bench(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request `decode_bench`, see `edgetf.runtime.decode.answers`.

    Raises:
        ConfigError: a context is longer than a model can read.
    """
    opened = [_open(DecoderModel.from_json(record), request) for record in request["models"]]
    lengths: Sequence[int] = request["contexts"]
    for each in opened:
        capacity = each.session.capacity
        if capacity is not None and max(lengths) > capacity:
            raise ConfigError(f"context: got {max(lengths)} tokens, {each.model.name} has positions for {capacity}")
    loaded, start = load_average(), snapshot()
    for length in lengths:
        _time(opened, length, request)
    return {
        "models": [
            {"load_ms": each.load_ms, "backend": each.session.engine.to_json(), "contexts": each.records}
            for each in opened
        ],
        "peak_rss_bytes": peak_rss_bytes() if len(opened) == 1 else None,  # of two it would be the sum
        "load_average": loaded,
        "conditions": conditions(start, snapshot()),
        "machine": machine(),
    }


def _open(model: DecoderModel, request: dict[str, Any]) -> _Opened:
    before = time.perf_counter()
    session = model.open(request["threads"])
    load_ms = (time.perf_counter() - before) * 1e3
    words = model.timed_ids or (model.text_ids(request["text"]) if request.get("text") else ())
    if not words:
        words = tuple(3 + k % _ANY_IDS for k in range(_ANY_IDS))
    return _Opened(model, session, load_ms, np.asarray(words, dtype=np.int64) % model.decoder.vocab_size)


def _time(opened: Sequence[_Opened], length: int, request: dict[str, Any]) -> None:
    """Add the record of one context length to each model."""
    before = snapshot()
    prefills = _prefills(opened, length, request.get("prefills", PREFILLS))
    taken = interleaved_ms([each.step(length) for each in opened], request["samples"], request.get("seconds", 0.0))
    found = conditions(before, snapshot())
    for each, prefill_ms, step in zip(opened, prefills, taken, strict=True):
        first, later = percentile(prefill_ms, 50), percentile(step.warm, 50)
        each.records.append(
            {
                "context": length,
                "prefill_ms": prefill_ms,
                "time_to_first_token_ms": first,
                "prefill_tokens_per_second": length / first * 1e3,
                "decode_ms": step.warm,
                "after_another_ms": step.after_another,
                "decode_tokens_per_second": 1e3 / later,
                "doubts": doubts(step.warm, found, request["threads"]),
            }
        )


def _prefills(opened: Sequence[_Opened], length: int, count: int) -> list[list[float]]:
    """Milliseconds of `count` prefills of each, in turns, after one that warms up."""
    taken: list[list[float]] = [[] for _ in opened]
    for turn in range(count + 1):
        for each, samples in zip(opened, taken, strict=True):
            spent = milliseconds(partial(each.prefill, length))
            if turn:
                samples.append(spent)
    return taken
