"""Whether a bound on time is kept, missed, or lost in the noise, and when to time once more.

A timing has two errors. One shows within a run: the 95 % interval, a bootstrap of its samples. The other does not: two
runs of one file differ by more than either interval says, because memory layout, clock and neighbours differ from
process to process. `NOISE_FLOOR` is that second error, as a share of the value. For a value v with the interval
[low, high] and the floor f, a bound from below (``speedup=L``) is

    clearly kept     low (1 - f) >= L
    clearly missed   high (1 + f) < L
    within the noise otherwise

and a bound from above mirrors it. Within the noise, or where the timings scatter, the models are timed once more, in a
fresh process with more samples. Whatever is then still within the noise is missed if v misses by more than the floor,
v (1 + f) < L, and else kept; the check says so. Timings that scatter in both runs keep and miss nothing.

`benchmarks/noise_floor.py` checks the floors with pairs of identical files. Bounds on correctness, size and memory know
no noise and are judged by `edgetf.core.budget` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgetf.core.budget import DECODING, TIMED, UPPER_BOUNDS, Check, not_measured, relation
from edgetf.core.metrics import percentile_interval

NOISE_FLOOR = {"speedup": 0.03, "latency_p50_ms": 0.05, "latency_p90_ms": 0.10, "latency_p99_ms": 0.30}
NOISE_FLOOR |= dict.fromkeys(DECODING, NOISE_FLOOR["latency_p50_ms"])  # they are medians too
PERCENTILES = {"latency_p50_ms": 50, "latency_p90_ms": 90, "latency_p99_ms": 99}
P99_SAMPLES = 100  # with fewer the 99th percentile is the largest sample, or nearly

Standing = Literal["kept", "missed", "within"]
Kept = Literal["first", "second", "both"]


@dataclass(frozen=True)
class Reading:
    """A timed value with its 95 % interval and the number of its samples."""

    value: float
    low: float
    high: float
    n: int


def readings(
    samples_ms: Sequence[float], values: Mapping[str, float | None], speedup_ci95: Sequence[float] | None
) -> dict[str, Reading]:
    """What a run says of each bound on time; a value of which no samples were kept is its own interval.

    >>> readings([], {"speedup": 4.0, "latency_p50_ms": None}, (3.9, 4.2))
    {'speedup': Reading(value=4.0, low=3.9, high=4.2, n=0)}
    """
    found = {}
    for key in TIMED:
        value = values.get(key)
        if value is None:
            continue
        interval: Sequence[float] = speedup_ci95 or (value, value)
        if key in PERCENTILES:
            interval = percentile_interval(samples_ms, PERCENTILES[key]) if samples_ms else (value, value)
        found[key] = Reading(value, interval[0], interval[1], len(samples_ms))
    return found


def standing(key: str, limit: float, reading: Reading) -> Standing:
    """Where a bound lies beside the interval, widened by the noise floor.

    >>> [standing("speedup", limit, Reading(4.0, 3.9, 4.1, 60)) for limit in (3.7, 4.0, 4.3)]
    ['kept', 'within', 'missed']
    >>> standing("latency_p50_ms", 2.0, Reading(1.5, 1.4, 1.6, 60))
    'kept'
    """
    floor = NOISE_FLOOR[key]
    low, high = reading.low * (1 - floor), reading.high * (1 + floor)
    if key in UPPER_BOUNDS:
        return "kept" if high <= limit else "missed" if low > limit else "within"
    return "kept" if low >= limit else "missed" if high < limit else "within"


def misses(key: str, limit: float, value: float) -> bool:
    """Whether a value misses its bound by more than the noise floor.

    >>> [misses("speedup", 4.0, value) for value in (3.8, 3.9)]
    [True, False]
    """
    floor = NOISE_FLOOR[key]
    return value * (1 - floor) > limit if key in UPPER_BOUNDS else value * (1 + floor) < limit


def reasons_to_retry(budget: Mapping[str, float], found: Mapping[str, Reading], doubts: Sequence[str]) -> list[str]:
    """Why a run does not decide every bound on time of a budget; empty: it does.

    >>> reasons_to_retry({"speedup": 4.0}, {"speedup": Reading(4.0, 3.9, 4.1, 60)}, doubts=[])
    ['speedup: 4 (95 %: 3.9 to 4.1) is within the noise of 4']
    >>> reasons_to_retry({"size_mib": 4.0}, {}, doubts=["the timings scatter"])
    []
    """
    timed = {key: limit for key, limit in budget.items() if key in found}
    if timed and doubts:
        return list(doubts)
    reasons = []
    for key, limit in timed.items():
        reading = found[key]
        if key == "latency_p99_ms" and reading.n < P99_SAMPLES:
            reasons.append(f"{key}: {reading.n} samples, needs {P99_SAMPLES}")
        elif standing(key, limit, reading) == "within":
            reasons.append(f"{key}: {_shown(reading)} is within the noise of {limit:g}")
    return reasons


def samples_of_retry(n: int, budget: Mapping[str, float]) -> int:
    """How many samples the second run takes: twice those of the first, and enough for a 99th percentile.

    >>> samples_of_retry(60, {"speedup": 4.0}), samples_of_retry(30, {"latency_p99_ms": 9.0})
    (120, 100)
    """
    return max(2 * n, P99_SAMPLES if "latency_p99_ms" in budget else 0)


def run_to_keep(first_trusted: bool | None, second_trusted: bool | None) -> Kept:
    """Both runs together where neither or both are trusted, else the one that is.

    >>> run_to_keep(True, True), run_to_keep(False, True), run_to_keep(True, False)
    ('both', 'second', 'first')
    """
    if bool(first_trusted) == bool(second_trusted):
        return "both"
    return "first" if first_trusted else "second"


def pooled(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The second answer of a runner with the samples of both, turn by turn; each list is one model's.

    >>> pooled({"samples_ms": [[1.0], [3.0]]}, {"samples_ms": [[1.2], [3.3]]})
    {'samples_ms': [[1.0, 1.2], [3.0, 3.3]]}
    """
    pairs = zip(first["samples_ms"], second["samples_ms"], strict=True)
    return {**second, "samples_ms": [[*one, *other] for one, other in pairs]}


def timed_checks(
    budget: Mapping[str, float], found: Mapping[str, Reading], doubts: Sequence[str], retries: int
) -> dict[str, Check]:
    """Every bound on time of a budget that has a value, held against it; `doubts` say why it is not trusted.

    >>> timed_checks({"speedup": 4.0}, {"speedup": Reading(3.9, 3.8, 4.0, 180)}, [], retries=1)["speedup"].why
    'speedup: 3.9 (95 %: 3.8 to 4), wanted >= 4: kept, within the noise (floor 3 %), timed twice'
    """
    return {key: _check(key, limit, found[key], doubts, retries) for key, limit in budget.items() if key in found}


def _check(key: str, limit: float, reading: Reading, doubts: Sequence[str], retries: int) -> Check:
    timed = "timed twice" if retries else "timed once"
    if doubts:
        return not_measured(key, limit, f"untrusted, {timed}: {'; '.join(doubts)}")
    if key == "latency_p99_ms" and 0 < reading.n < P99_SAMPLES:
        return not_measured(key, limit, f"{reading.n} samples, needs {P99_SAMPLES}; ask for more")
    where, missed, floor = standing(key, limit, reading), misses(key, limit, reading.value), NOISE_FLOOR[key]
    noise = {"ci95": [round(reading.low, 4), round(reading.high, 4)], "floor": floor, "within": where == "within"}
    said = "missed" if missed else "kept"
    if where == "within":
        said += f", within the noise (floor {100 * floor:g} %), {timed}"
    why = f"{key}: {_shown(reading)}, wanted {relation(key)} {limit:g}: {said}"
    return Check(key, limit, reading.value, "fail" if missed else "pass", why, noise)


def _shown(reading: Reading) -> str:
    """A value, with its interval where it has one."""
    if reading.low == reading.high:
        return f"{reading.value:.4g}"
    return f"{reading.value:.4g} (95 %: {reading.low:.4g} to {reading.high:.4g})"
