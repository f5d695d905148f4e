"""Latency over minutes: a small board that is fast at first gets hot, and then shows what it can keep up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edgetf.core.metrics import percentile
from edgetf.runtime.conditions import clock_mhz, temperature_c, throttled
from edgetf.runtime.timing import milliseconds

WINDOWS = 30
Tick = Callable[[int, int], None]


def sustained(call: Callable[[], object], seconds: float, tick: Tick) -> list[dict[str, Any]]:
    """Run without a pause for so long; the median of each of some windows, with clock and temperature at its end."""
    start, windows = time.perf_counter(), []
    for number in range(1, WINDOWS + 1):
        taken = [milliseconds(call)]
        while time.perf_counter() - start < seconds * number / WINDOWS:
            taken.append(milliseconds(call))
        windows.append(
            {
                "end_s": round(time.perf_counter() - start, 2),
                "latency_p50_ms": round(percentile(taken, 50), 4),
                "latency_p90_ms": round(percentile(taken, 90), 4),
                "n": len(taken),
                "clock_mhz": clock_mhz(),
                "temperature_c": temperature_c(),
                "throttled": throttled(),
            }
        )
        tick(number, WINDOWS)
    return windows
