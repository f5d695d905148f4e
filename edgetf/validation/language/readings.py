"""The timed values of a decoder that a budget can bound: those at its middle context, with their intervals.

A rate is tokens over seconds, so that the interval of a rate is that of its time, turned over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetf.core.metrics import percentile_interval
from edgetf.validation.latency_gate import Reading


def middle(decoding: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The entry of the middle context, by which a decoder is judged; None where nothing was timed.

    >>> middle([{"context": 384}, {"context": 32}, {"context": 128}])
    {'context': 128}
    """
    ordered = sorted(decoding, key=lambda entry: int(entry["context"]))
    return ordered[len(ordered) // 2] if ordered else None


def decode_readings(decoding: Sequence[dict[str, Any]]) -> dict[str, Reading]:
    """What the timings of a row say of each bound on them; empty where nothing was timed."""
    entry = middle(decoding)
    if entry is None:
        return {}
    found = {"ttft_ms": _reading(entry["ttft_ms"], entry["ttft_samples_ms"])}
    found["prefill_tokens_per_s"] = _rate(entry["context"], found["ttft_ms"])
    found["decode_tokens_per_s"] = _rate(1, _reading(entry["decode_p50_ms"], entry["samples_ms"]))
    return found


def _reading(value: float, samples_ms: Sequence[float]) -> Reading:
    low, high = percentile_interval(samples_ms, 50) if len(samples_ms) else (value, value)
    return Reading(value, low, high, len(samples_ms))


def _rate(tokens: int, taken: Reading) -> Reading:
    """Tokens a second of something that takes so many milliseconds.

    >>> _rate(2, Reading(4.0, 2.0, 8.0, 30))
    Reading(value=500.0, low=250.0, high=1000.0, n=30)
    """
    every = 1e3 * tokens
    return Reading(every / taken.value, every / taken.high, every / taken.low, taken.n)
