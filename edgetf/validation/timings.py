"""What a runner's samples say: percentiles of one model, and how it compares with one timed in turns with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgetf.core.metrics import percentile, percentile_interval, ratio_interval


@dataclass(frozen=True)
class Timing:
    """One model at one number of tokens; `speedup` is the median of the reference over its own."""

    seq_len: int
    n: int
    latency_p50_ms: float
    latency_p50_ci95_ms: list[float]
    latency_p90_ms: float
    latency_p99_ms: float
    reference_p50_ms: float | None
    speedup: float | None
    speedup_ci95: list[float] | None
    doubts: list[str]


def timing_of(answer: dict[str, Any], k: int = 0, reference: int | None = 1) -> Timing:
    """Of model number `k` in a runner's answer, beside model number `reference`, where there are so many."""
    own, every = answer["samples_ms"][k], answer["samples_ms"]
    other = every[reference] if reference is not None and reference < len(every) else None
    found = list(answer["doubts"][k])
    if other is not None and reference is not None:
        found += [f"its reference: {doubt}" for doubt in answer["doubts"][reference] if doubt not in found]
    return Timing(
        seq_len=answer["seq_lens"][k],
        n=len(own),
        latency_p50_ms=round(percentile(own, 50), 4),
        latency_p50_ci95_ms=[round(value, 4) for value in percentile_interval(own, 50)],
        latency_p90_ms=round(percentile(own, 90), 4),
        latency_p99_ms=round(percentile(own, 99), 4),
        reference_p50_ms=None if other is None else round(percentile(other, 50), 4),
        speedup=None if other is None else round(percentile(other, 50) / percentile(own, 50), 4),
        speedup_ci95=None if other is None else [round(value, 3) for value in ratio_interval(other, own)],
        doubts=found,
    )
