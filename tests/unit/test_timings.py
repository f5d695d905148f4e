"""What samples say: their percentiles with intervals, a ratio with its reference, and the lines that people read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgetf.core.metrics import percentile_interval, ratio_interval
from edgetf.report.timings import bench_lines
from edgetf.validation.fallback import fallback_problem, provider_share
from edgetf.validation.timings import timing_of

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def answer(*models: list[float], doubts: list[list[str]] | None = None) -> dict[str, Any]:
    return {"samples_ms": list(models), "seq_lens": [32] * len(models), "doubts": doubts or [[] for _ in models]}


def test_one_model_has_no_ratio() -> None:
    timing = timing_of(answer([1.0] * 30))
    assert timing.latency_p50_ms == 1.0
    assert (timing.speedup, timing.speedup_ci95, timing.reference_p50_ms) == (None, None, None)


def test_a_model_is_held_against_the_one_beside_it() -> None:
    timing = timing_of(answer([1.0] * 30, [4.0] * 30))
    assert (timing.speedup, timing.speedup_ci95, timing.reference_p50_ms) == (4.0, [4.0, 4.0], 4.0)


def test_percentiles_stand_in_their_order() -> None:
    timing = timing_of(answer([float(value) for value in range(1, 102)]))
    assert (timing.latency_p50_ms, timing.latency_p90_ms, timing.latency_p99_ms) == (51.0, 91.0, 100.0)
    low, high = timing.latency_p50_ci95_ms
    assert low < 51 < high


def test_a_doubt_about_the_reference_is_a_doubt_about_the_ratio() -> None:
    timing = timing_of(answer([1.0] * 30, [4.0] * 30, doubts=[["busy"], ["busy", "scatter"]]))
    assert timing.doubts == ["busy", "its reference: scatter"]


def test_what_disturbs_several_in_a_row_widens_the_interval() -> None:
    """Samples in bad patches of ten say less than as many that are bad at random."""
    draw = np.random.default_rng(5)
    patches = np.repeat(draw.random(60) < 0.45, 10)
    patchy = np.where(patches, 2.0, 1.0) + draw.normal(0, 0.3, 600)
    low, high = percentile_interval(patchy.tolist(), 50)
    other_low, other_high = percentile_interval(draw.permutation(patchy).tolist(), 50)
    assert high - low > 1.3 * (other_high - other_low)


def test_the_interval_of_a_ratio_holds_the_true_one_nearly_always() -> None:
    draw, held = np.random.default_rng(7), 0
    for seed in range(60):
        own, other = draw.lognormal(0, 0.2, 90), 3 * draw.lognormal(0, 0.2, 90)
        low, high = ratio_interval(other.tolist(), own.tolist(), seed)
        held += low <= 3 <= high
    assert held >= 52


@pytest.mark.parametrize(
    ("backend", "share", "problem"),
    [
        ({"asked": CPU, "ran": CPU, "nodes": {CPU: 9}}, 1.0, None),
        ({"asked": CUDA, "ran": CUDA, "nodes": {CUDA: 9, CPU: 1}}, 0.9, None),
        (
            {"asked": CUDA, "ran": CPU, "nodes": {CPU: 9, CUDA: 1}},
            0.1,
            "asked for CUDA.*, but 9 of 10 nodes",
        ),
        ({"asked": CUDA, "ran": CPU, "nodes": {}}, None, "asked for CUDA.*, but it runs on CPU"),
        ({"asked": "numpy", "ran": "numpy"}, None, None),
    ],
)
def test_a_silent_fallback_is_a_problem(backend: dict[str, Any], share: float | None, problem: str | None) -> None:
    import re

    assert provider_share(backend) == share
    found = fallback_problem(backend)
    assert found is None if problem is None else re.search(problem, found or "")


def test_minutes_without_clock_or_heat_are_read_too() -> None:
    window = {"end_s": 10.0, "latency_p50_ms": 1.0, "clock_mhz": None, "temperature_c": None, "throttled": None}
    hot = {**window, "latency_p50_ms": 2.0, "clock_mhz": 1000.0, "temperature_c": 80.5, "throttled": ["throttled"]}
    document = {
        "name": "student", "seq_len": 32, "threads": 1, "backend": {"ran": CPU},
        "sustained": {"seconds": 20, "drift": 1.0, "windows": [window, hot]},
    }  # fmt: skip
    lines = bench_lines(document)
    assert lines[1].split() == ["10.0", "s", "p50", "1.00", "ms"]
    assert lines[2].endswith("p50 2.00 ms  1000 MHz, 80 °C, throttled")
    assert lines[-1] == "at the end 100.0% slower than at the start"
