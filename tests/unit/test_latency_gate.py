"""A bound on time: clearly kept, clearly missed, or within the noise, and never passed by timings that scatter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgetf.validation.judge import judged
from edgetf.validation.latency_gate import (
    NOISE_FLOOR,
    P99_SAMPLES,
    Reading,
    pooled,
    readings,
    reasons_to_retry,
    samples_of_retry,
    standing,
    timed_checks,
)
from edgetf.validation.row import DeviceRow

FLOOR = NOISE_FLOOR["speedup"]


def steady(value: float, n: int = 60) -> list[float]:
    """Samples around a value, within 1 %."""
    return [value * (1 + 0.01 * (-1) ** k * (k % 5) / 4) for k in range(n)]


@pytest.mark.parametrize(
    ("low", "value", "high", "where", "verdict"),
    [
        (4.4, 4.5, 4.6, "kept", "pass"),
        (3.5, 3.6, 3.7, "missed", "fail"),
        (3.95, 4.05, 4.1, "within", "pass"),
        (3.9, 3.95, 4.0, "within", "pass"),  # misses by less than the floor
        (3.5, 3.8, 4.2, "within", "fail"),  # misses by more than the floor, though its interval reaches the bound
    ],
)
def test_a_lower_bound_is_judged_with_interval_and_floor(
    low: float, value: float, high: float, where: str, verdict: str
) -> None:
    reading = Reading(value, low, high, 60)
    assert standing("speedup", 4.0, reading) == where
    check = timed_checks({"speedup": 4.0}, {"speedup": reading}, [], retries=1)["speedup"]
    assert check.verdict == verdict
    assert check.noise == {"ci95": [low, high], "floor": FLOOR, "within": where == "within"}
    assert ("within the noise (floor" in check.why) == (where == "within")


def test_an_upper_bound_mirrors_a_lower_one() -> None:
    floor = NOISE_FLOOR["latency_p50_ms"]
    reading = Reading(10.0, 9.9, 10.1, 60)
    limits = {10.1 * (1 + floor) * 1.01: "kept", 10.0: "within", 9.9 * (1 - floor) * 0.99: "missed"}
    assert {limit: standing("latency_p50_ms", limit, reading) for limit in limits} == limits
    checks = [timed_checks({"latency_p50_ms": limit}, {"latency_p50_ms": reading}, [], 0) for limit in limits]
    assert [check["latency_p50_ms"].verdict for check in checks] == ["pass", "pass", "fail"]


def test_only_what_is_open_is_timed_again() -> None:
    found = {"speedup": Reading(4.0, 3.95, 4.05, 60), "latency_p50_ms": Reading(2.0, 1.99, 2.01, 60)}
    assert reasons_to_retry({"speedup": 2.0, "latency_p50_ms": 9.0}, found, []) == []
    assert reasons_to_retry({"accuracy_drop": 0.02}, found, ["other work"]) == []
    (reason,) = reasons_to_retry({"speedup": 4.0, "latency_p50_ms": 9.0}, found, [])
    assert reason.startswith("speedup: 4 (95 %: 3.95 to 4.05) is within the noise of 4")
    assert reasons_to_retry({"speedup": 2.0}, found, ["other work"]) == ["other work"]


def test_a_99th_percentile_needs_a_hundred_samples() -> None:
    few = readings(steady(2.0), {"latency_p99_ms": 2.02}, None)
    assert reasons_to_retry({"latency_p99_ms": 99.0}, few, []) == ["latency_p99_ms: 60 samples, needs 100"]
    check = timed_checks({"latency_p99_ms": 99.0}, few, [], retries=0)["latency_p99_ms"]
    assert (check.verdict, check.value) == ("not_measured", None)
    assert samples_of_retry(30, {"latency_p99_ms": 99.0}) >= P99_SAMPLES
    enough = readings(steady(2.0, 100), {"latency_p99_ms": 2.02}, None)
    assert timed_checks({"latency_p99_ms": 99.0}, enough, [], retries=0)["latency_p99_ms"].verdict == "pass"


def test_runs_are_pooled_turn_by_turn() -> None:
    first, second = ({"samples_ms": [[k, k], [2 * k, 2 * k]], "machine": k} for k in (1.0, 2.0))
    assert pooled(first, second) == {"samples_ms": [[1, 1, 2, 2], [2, 2, 4, 4]], "machine": 2.0}


def test_correctness_is_judged_whatever_the_timings_do() -> None:
    row = DeviceRow("host", doubts=["other work"], speedup=9.0, latency_p50_ms=1.0,
                    metrics=[{"name": "accuracy", "value": 0.9}])  # fmt: skip
    assert judged(row, {"accuracy": 0.95}).verdict == "fail"
    assert judged(row, {"accuracy": 0.85}).verdict == "pass"


def test_an_emulated_processor_has_no_milliseconds_to_bound() -> None:
    row = DeviceRow("emulated_a72", how="emulated", instructions=3_000_000, reference_instructions=12_000_000)
    found = judged(row, {"instructions_ratio": 0.25, "latency_p50_ms": 5.0, "speedup": 2.0})
    assert [check["verdict"] for check in found.checks] == ["pass", "not_measured", "not_measured"]
    assert found.checks[0]["value"] == 0.25
    assert "bound instructions_ratio instead" in found.checks[1]["why"]
    assert judged(replace(row, instructions=3_000_001), {"instructions_ratio": 0.25}).verdict == "fail"
    strayed = replace(row, latency_p50_ms=1.0, speedup=9.0)
    assert judged(strayed, {"latency_p50_ms": 5.0, "speedup": 2.0}).verdict == "not_measured"


def test_instructions_are_not_measured_where_none_are_counted() -> None:
    row = judged(DeviceRow("host", latency_p50_ms=1.0), {"instructions_ratio": 0.5})
    assert row.why == ["instructions_ratio: not measured (instructions are counted on emulated devices only)"]


def test_a_prediction_keeps_no_bound() -> None:
    said = {"latency_p50_ms": 1.0, "interval95_ms": [0.8, 1.25]}
    away = DeviceRow("raspberry_pi_4", how="predicted", predicted=said, why=["not measured: out of reach"])
    row = judged(away, {"latency_p50_ms": 5.0, "speedup": 2.0})
    assert row.verdict == "not_measured"
    assert [check["verdict"] for check in row.checks] == ["not_measured"] * 2
    assert row.why == ["not measured: out of reach", "predicted 1 ms (95 %: 0.8 to 1.25), not measured"]
