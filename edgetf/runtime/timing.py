"""Latency of two or more models in one process, taken in turns.

Taking turns cancels what drifts (clock, temperature, other load), because it strikes every model alike; a ratio of
medians from one such run is what a budget may rest on. The order is reversed every other round.

A turn is two runs. The second is the latency that benchmarks of a single model give: its weights are in the caches, as
far as they fit. The first one finds there what the model before it has left, and would make a small model as slow as
the large one beside it is large; it is kept apart.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgetf.core.metrics import percentile

WARMUP_SECONDS = 0.3
WARMUP_RUNS = 5
NOISY = 0.5  # (p90 - p50) / p50 above which a run is not trusted


@dataclass(frozen=True)
class Taken:
    """Milliseconds of one call: of the second run of each turn, and of the first ones that came after another call."""

    warm: list[float] = field(default_factory=list)
    after_another: list[float] = field(default_factory=list)


def interleaved_ms(calls: Sequence[Callable[[], object]], samples: int) -> list[Taken]:
    """What each call takes, in so many turns after a warm-up."""
    for call in calls:
        _warm_up(call)
    taken, last = [Taken() for _ in calls], len(calls) - 1
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(samples):
            order = range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls)))
            for k in order:
                first = _milliseconds(calls[k])
                if k != last:  # a round begins with the call that the round before ended with
                    taken[k].after_another.append(first)
                taken[k].warm.append(_milliseconds(calls[k]))
                last = k
    finally:
        if was_enabled:
            gc.enable()
    return taken


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def _warm_up(call: Callable[[], object]) -> None:
    end = time.perf_counter() + WARMUP_SECONDS
    runs = 0
    while runs < WARMUP_RUNS or time.perf_counter() < end:
        call()
        runs += 1


def is_noisy(samples: Sequence[float]) -> bool:
    """Whether the slow tail is so long that the median should not be trusted.

    >>> is_noisy([1.0] * 20), is_noisy([1.0] * 15 + [2.0] * 5)
    (False, True)
    """
    median = percentile(samples, 50)
    return (percentile(samples, 90) - median) / median > NOISY
