"""JUnit XML that a CI reads: a case for correctness and one for every budget line, with counts that add up."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from edgetf.report.junit import junit
from edgetf.validation.validate import DeviceRow, judged

ROW = DeviceRow("host", speedup=4.5, latency_p50_ms=2.0, size_bytes=1 << 20)
AWAY = DeviceRow("board", how="not_measured", why=["not measured: board cannot be reached from here"])
BUDGET = {"speedup": 4.0, "latency_p50_ms": 1.0, "accuracy_drop": 0.02}


def suite(*rows: tuple[str, DeviceRow]) -> ElementTree.Element:
    root = ElementTree.fromstring(junit(rows))
    assert root.tag == "testsuites"
    found = root.find("testsuite")
    assert found is not None
    return found


def cases(*rows: tuple[str, DeviceRow]) -> dict[str, ElementTree.Element]:
    return {f"{case.get('classname')}.{case.get('name')}": case for case in suite(*rows).findall("testcase")}


def counts(*rows: tuple[str, DeviceRow]) -> tuple[str | None, ...]:
    found = suite(*rows)
    return tuple(found.get(name) for name in ("tests", "failures", "skipped", "errors"))


def test_every_budget_line_is_a_case_of_its_variant_and_device() -> None:
    assert list(cases(("onnx-fp32", judged(ROW, BUDGET)))) == [
        "onnx-fp32.host.correct",
        "onnx-fp32.host.speedup",
        "onnx-fp32.host.latency_p50_ms",
        "onnx-fp32.host.accuracy_drop",
    ]


def test_counts_add_up() -> None:
    measured, away = judged(ROW, BUDGET), judged(AWAY, BUDGET)
    assert counts(("a", measured)) == ("4", "1", "1", "0")
    assert counts(("a", away)) == ("4", "0", "4", "0")
    assert counts(("a", measured), ("b", measured), ("b", away)) == ("12", "2", "6", "0")
    assert counts() == ("0", "0", "0", "0")


def test_a_missed_line_fails_with_value_and_limit() -> None:
    failure = cases(("a", judged(ROW, BUDGET)))["a.host.latency_p50_ms"].find("failure")
    assert failure is not None
    assert failure.get("message") == "latency_p50_ms: 2, wanted <= 1: missed"


def test_a_kept_line_passes_and_shows_its_value() -> None:
    case = cases(("a", judged(ROW, BUDGET)))["a.host.speedup"]
    assert case.find("failure") is None
    assert case.find("skipped") is None
    assert case.findtext("system-out") == "speedup: 4.5, wanted >= 4: kept"


def test_what_was_not_measured_is_skipped_with_its_reason() -> None:
    skipped = cases(("a", judged(ROW, BUDGET)))["a.host.accuracy_drop"].find("skipped")
    assert skipped is not None
    assert (skipped.get("message") or "").startswith("accuracy_drop: not measured (")


def test_a_device_out_of_reach_skips_every_case() -> None:
    found = cases(("a", judged(AWAY, BUDGET)))
    assert all(case.find("skipped") is not None for case in found.values())
    assert len(found) == 4


def test_a_wrong_result_fails_the_case_called_correct() -> None:
    row = judged(replace(ROW, problems=["parity: logits moved", "baseline: weak"]), {})
    failure = cases(("a", row))["a.host.correct"].find("failure")
    assert failure is not None
    assert failure.get("message") == "parity: logits moved; baseline: weak"


@pytest.mark.parametrize("text", ['<a> & "b"', "é 漢 🎉", "\u2028", "two\nlines", "\x1b[31mred\x00"], ids=ascii)
def test_the_file_is_xml_whatever_a_message_says(text: str) -> None:
    case = cases(("a", judged(replace(ROW, problems=[text]), {})))["a.host.correct"]
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message")
