"""Latency of two or more models in one process, taken in turns.

Taking turns cancels what drifts (clock, temperature, other load), because it strikes every model alike; a ratio of
medians from one such run is what a budget may rest on. The order is reversed every other round.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

from edgetf.core.metrics import percentile

WARMUP_SECONDS = 0.3
WARMUP_RUNS = 5
NOISY = 0.5  # (p90 - p50) / p50 above which a run is not trusted


def interleaved_ms(calls: Sequence[Callable[[], object]], samples: int) -> list[list[float]]:
    """Milliseconds of each call, `samples` of them, in turns after a warm-up."""
    for call in calls:
        _warm_up(call)
    taken: list[list[float]] = [[] for _ in calls]
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(samples):
            order = range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls)))
            for k in order:
                start = time.perf_counter_ns()
                calls[k]()
                taken[k].append((time.perf_counter_ns() - start) / 1e6)
    finally:
        if was_enabled:
            gc.enable()
    return taken


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
