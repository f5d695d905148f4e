"""A row is judged by its budget: kept, missed, or not measured, and never a pass without a number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgetf.core.metrics import Metric
from edgetf.validation.judge import MIB, NO_REFERENCE, judged
from edgetf.validation.row import DeviceRow, row_from_json

ROW = DeviceRow(
    device="host",
    latency_p50_ms=2.0,
    latency_p90_ms=2.5,
    latency_p99_ms=3.0,
    n=60,
    reference={"name": "teacher-onnx-fp32", "latency_p50_ms": 9.0, "n": 60},
    speedup=4.5,
    trusted=True,
    peak_rss_bytes=100 * MIB,
    size_bytes=10 * MIB,
    reference_size_bytes=80 * MIB,
    metrics=[Metric("accuracy", 0.95).to_json(), Metric("accuracy_drop", 0.01).to_json(),
             Metric("agreement", 0.97).to_json(), Metric("macro_f1", 0.94).to_json()],
)  # fmt: skip


def changed(**fields: Any) -> DeviceRow:
    return replace(ROW, **fields)


@pytest.mark.parametrize(
    ("key", "kept", "missed"),
    [
        ("accuracy", 0.95, 0.96),
        ("accuracy_drop", 0.01, 0.009),
        ("agreement", 0.97, 0.98),
        ("macro_f1", 0.94, 0.95),
        ("latency_p50_ms", 2.0, 1.8),
        ("latency_p90_ms", 2.5, 2.2),
        ("latency_p99_ms", 4.0, 2.0),
        ("speedup", 4.5, 5),
        ("size_mib", 10, 9.9),
        ("size_ratio", 8, 8.1),
        ("peak_rss_mib", 100, 99),
    ],
)
def test_every_budget_line_has_its_number(key: str, kept: float, missed: float) -> None:
    assert judged(ROW, {key: kept}).verdict == "pass"
    row = judged(ROW, {key: missed})
    assert row.verdict == "fail"
    assert row.checks[0]["key"] == key
    assert row.why == [row.checks[0]["why"]]
    assert "missed" in row.why[0]


def test_an_emulated_processor_gives_instructions_and_no_milliseconds() -> None:
    row = DeviceRow(device="emulated_a72", how="emulated", instructions=9_000_000, instructions_ratio=0.5, seq_len=32,
                    size_bytes=MIB, reference_size_bytes=2 * MIB)  # fmt: skip
    found = judged(row, {"latency_p50_ms": 3, "peak_rss_mib": 100, "size_mib": 2})
    assert [check["verdict"] for check in found.checks] == ["not_measured", "not_measured", "pass"]
    assert "has no milliseconds" in found.why[0] and "includes the emulator" in found.why[1]
    assert found.why[-1].endswith("9.0 million instructions an inference of 32 tokens, 0.50 times the reference's")
    alone = judged(changed(how="emulated", metrics=[], reference_size_bytes=None), {"accuracy": 0.9})
    assert NO_REFERENCE in alone.why[0]


def test_without_a_budget_only_correctness_is_judged() -> None:
    assert judged(ROW, {}).verdict == "pass"
    row = judged(changed(problems=["parity: logits moved"]), {})
    assert (row.verdict, row.why) == ("fail", ["parity: logits moved"])


def test_a_wrong_result_fails_whatever_the_budget() -> None:
    row = judged(changed(problems=["parity: logits moved"]), {"speedup": 1})
    assert row.verdict == "fail"
    assert row.why[0] == "parity: logits moved"
    assert row.checks[0]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("accuracy_drop", {"metrics": []}),
        ("speedup", {"speedup": None, "reference": None}),
        ("size_ratio", {"reference_size_bytes": None}),
        ("peak_rss_mib", {"peak_rss_bytes": None}),
        ("size_mib", {"size_bytes": None}),
    ],
)
def test_what_was_not_measured_is_never_a_pass(key: str, fields: dict[str, Any]) -> None:
    row = judged(changed(**fields), {key: 0.5})
    assert row.verdict == "not_measured"
    assert row.checks[0]["value"] is None
    assert row.why == [f"{key}: not measured ({NO_REFERENCE})"]


def test_a_fail_outweighs_what_was_not_measured() -> None:
    assert judged(changed(metrics=[]), {"accuracy_drop": 0.02, "speedup": 9}).verdict == "fail"


def test_a_device_that_was_not_reached_says_why_on_every_line() -> None:
    row = DeviceRow("board", how="not_measured", why=["not measured: board cannot be reached from here"])
    row = judged(row, {"speedup": 2, "size_mib": 3})
    assert row.verdict == "not_measured"
    assert [check["verdict"] for check in row.checks] == ["not_measured"] * 2
    assert all("board cannot be reached from here" in check["why"] for check in row.checks)
    assert row.why == ["not measured: board cannot be reached from here"]


def test_timings_in_doubt_are_called_untrusted_with_each_reason() -> None:
    doubts = ["other work takes 2.0 of 2 cores; end it", "the timings drift; let it cool"]
    assert judged(changed(trusted=False, doubts=doubts), {}).why == [f"untrusted: {doubt}" for doubt in doubts]
    assert judged(changed(trusted=None), {}).why == []


def test_a_variant_that_is_slower_than_its_teacher_says_so() -> None:
    row = judged(changed(speedup=0.8), {})
    assert row.why == ["slower: it runs at 0.80 times the speed of its teacher's fp32 file"]


def test_the_given_row_is_left_as_it_was() -> None:
    before = replace(ROW)
    judged(ROW, {"speedup": 9})
    assert before == ROW


def test_a_row_round_trips_through_json() -> None:
    row = judged(ROW, {"speedup": 9})
    assert row_from_json(vars(row)) == row
