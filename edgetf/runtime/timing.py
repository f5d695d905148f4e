"""Latency of two or more models in one process, taken in turns.

Taking turns cancels what drifts (clock, temperature, other load), because it strikes every model alike; a ratio of
medians from one such run is what a budget may rest on. The order is reversed every other round.

A turn is two runs. The second is the latency that benchmarks of a single model give: its weights are in the caches, as
far as they fit. The first one finds there what the model before it has left, and would make a small model as slow as
the large one beside it is large; it is kept apart.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgetf.core.metrics import percentile

WARMUP_SECONDS = 0.3
WARMUP_RUNS = 5  # of a window
WARMUP_LIMIT = 3.0  # seconds after which a call counts as warm, stable or not
STABLE = 0.03  # change of the median from one window to the next
LEAST_SAMPLES = 30
SETTLED = 0.01  # half the width of a median's 95 % interval, as a fraction of it
_CHECK_EVERY = 10  # turns

Call = Callable[[], object]


@dataclass(frozen=True)
class Taken:
    """Milliseconds of one call: of the second run of each turn, and of the first ones that came after another call."""

    warm: list[float] = field(default_factory=list)
    after_another: list[float] = field(default_factory=list)


def interleaved_ms(calls: Sequence[Call], samples: int, seconds: float = 0.0) -> list[Taken]:
    """What each call takes, after a warm-up.

    That is in so many turns; with `seconds` (for each call) in more, until every median is known to 1 %, or in fewer,
    30 at least, until that time is up.
    """
    for call in calls:
        warm_up(call)
    taken, last = [Taken() for _ in calls], len(calls) - 1
    end = time.perf_counter() + seconds * len(calls)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        turn = 0
        while _goes_on(turn, samples, taken, end if seconds else None):
            order = range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls)))
            for k in order:
                first = milliseconds(calls[k])
                if k != last:  # a round begins with the call that the round before ended with
                    taken[k].after_another.append(first)
                taken[k].warm.append(milliseconds(calls[k]))
                last = k
            turn += 1
    finally:
        if was_enabled:
            gc.enable()
    return taken


def _goes_on(turn: int, samples: int, taken: Sequence[Taken], end: float | None) -> bool:
    """Whether another turn is needed."""
    if end is None:
        return turn < samples
    if time.perf_counter() >= end:
        return turn < LEAST_SAMPLES
    return turn < samples or turn % _CHECK_EVERY != 0 or not all(settled(each.warm) for each in taken)


def settled(samples: Sequence[float]) -> bool:
    """Whether the median is known well enough.

    Its 95 % interval lies between the order statistics n/2 ± 0.98 √n, whatever the distribution (Conover 1999, 3.2).

    >>> settled([1.0] * 40), settled([1.0, 2.0] * 20)
    (True, False)
    """
    ordered, n = np.sort(np.asarray(samples)), len(samples)
    half = 0.98 * math.sqrt(n)
    low, high = ordered[max(0, math.floor(n / 2 - half))], ordered[min(n - 1, math.ceil(n / 2 + half))]
    return bool(high - low <= 2 * SETTLED * ordered[n // 2])


def milliseconds(call: Call) -> float:
    """What one call takes."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def warm_up(call: Call) -> None:
    """Run until times no longer change: caches are full, memory is allocated, the clock has risen."""
    start = time.perf_counter()
    before = 0.0
    while True:
        median = percentile([milliseconds(call) for _ in range(WARMUP_RUNS)], 50)
        spent = time.perf_counter() - start
        stable = abs(median - before) <= STABLE * before
        if (spent >= WARMUP_SECONDS and stable) or spent >= WARMUP_SECONDS + WARMUP_LIMIT:
            return
        before = median
