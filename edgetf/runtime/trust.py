"""Whether timings can be trusted, and if not, what to do about it.

The thresholds are for medians of single inferences: on a machine left alone the 90th percentile lies within a few per
cent of the median (see `benchmarks/measurement.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetf.core.metrics import percentile

SCATTER = 0.5  # (p90 - p50) / p50
DRIFT = 0.2  # change of the median from the first third to the last
CROWD = 0.25  # cores that others take beyond those that are free beside our threads


def is_noisy(samples: Sequence[float]) -> bool:
    """Whether the slow tail is so long that the median should not be trusted.

    >>> is_noisy([1.0] * 20), is_noisy([1.0] * 15 + [2.0] * 5)
    (False, True)
    """
    median = percentile(samples, 50)
    return (percentile(samples, 90) - median) / median > SCATTER


def drift(samples: Sequence[float]) -> float:
    """How much slower the last third of the samples is than the first, as a fraction; negative: faster.

    >>> drift([1.0] * 10 + [1.1] * 10 + [1.5] * 10)
    0.5
    """
    third = max(1, len(samples) // 3)
    return percentile(samples[-third:], 50) / percentile(samples[:third], 50) - 1


def doubts(samples: Sequence[float], found: dict[str, Any], threads: int) -> list[str]:
    """Why timings taken under these conditions should not be trusted, each with its remedy; none: trust them."""
    reasons = []
    if is_noisy(samples):
        times = percentile(samples, 90) / percentile(samples, 50)
        reasons.append(f"the timings scatter (p90 is {times:.1f} times p50); end other work on it and measure again")
    change = drift(samples)
    if abs(change) > DRIFT:
        word = "slower" if change > 0 else "faster"
        reasons.append(
            f"the timings drift (the last third is {abs(change):.0%} {word} than the first); "
            "let it cool, set the performance governor, and measure again"
        )
    others, cores = found.get("other_cores"), found.get("cores") or 1
    if others is not None and others > max(0, cores - threads) + CROWD:
        reasons.append(f"other work takes {others:.1f} of {cores} cores; end it and measure again")
    stolen = found.get("stolen_cores")
    if stolen is not None and stolen > CROWD:
        reasons.append(f"the host of this virtual machine takes {stolen:.1f} cores away; measure on one that is idle")
    if found.get("throttled"):
        why = ", ".join(found["throttled"])
        reasons.append(f"it runs slowed down ({why}); give it a better supply or cooling, and measure again")
    return reasons
