"""JUnit XML that a CI reads: a case for correctness and one for every budget line, with counts that add up."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from edgetf.report.junit import junit
from edgetf.validation.judge import judged
from edgetf.validation.row import DeviceRow

ROW = DeviceRow("host", speedup=4.5, latency_p50_ms=2.0, size_bytes=1 << 20)
AWAY = DeviceRow("board", how="not_measured", why=["not measured: board cannot be reached from here"])
BUDGET = {"speedup": 4.0, "latency_p50_ms": 1.0, "accuracy_drop": 0.02}


def root(*rows: tuple[str, DeviceRow], require_measured: bool = False) -> ElementTree.Element:
    return ElementTree.fromstring(junit(rows, require_measured))


def cases(*rows: tuple[str, DeviceRow]) -> dict[str, ElementTree.Element]:
    return {f"{case.get('classname')}.{case.get('name')}": case for case in root(*rows).iter("testcase")}


def counts(*rows: tuple[str, DeviceRow], require_measured: bool = False) -> list[tuple[str | None, ...]]:
    """Tests, failures and skipped of the root and of every suite; the root has no place for the last."""
    found = root(*rows, require_measured=require_measured)
    return [tuple(each.get(name) for name in ("tests", "failures", "skipped")) for each in (found, *found)]


def test_every_budget_line_is_a_case_of_its_variant_and_device() -> None:
    assert list(cases(("onnx-fp32", judged(ROW, BUDGET)))) == [
        "onnx-fp32.host.correct",
        "onnx-fp32.host.speedup",
        "onnx-fp32.host.latency_p50_ms",
        "onnx-fp32.host.accuracy_drop",
    ]


def test_counts_add_up() -> None:
    measured, away = judged(ROW, BUDGET), judged(AWAY, BUDGET)
    assert counts(("a", measured)) == [("4", "1", None), ("4", "1", "1")]
    assert counts(("a", measured), ("b", away)) == [("8", "1", None), ("4", "1", "1"), ("4", "0", "4")]
    assert counts() == [("0", "0", None)]


def test_where_measuring_is_required_what_was_not_measured_fails() -> None:
    measured, away = judged(ROW, BUDGET), judged(AWAY, BUDGET)
    found = counts(("a", measured), ("b", away), require_measured=True)
    assert found == [("8", "6", None), ("4", "2", "0"), ("4", "4", "0")]
    failure = root(("b", away), require_measured=True).find(".//testcase[@name='correct']/failure")
    assert failure is not None
    assert failure.attrib == {"message": AWAY.why[0], "type": "not_measured"}


# What Jenkins' junit-10.xsd allows, which is the strictest form in use: the attributes of each element (those that it
# must have first), and its children in any number.
TEXT = {"message", "type"}
ALLOWED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"time", "skipped", "timestamp"},
        {"properties", "testcase"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name"}, {"classname", "time"}, {"skipped", "failure", "error", "system-out"}),
    "skipped": (set(), TEXT, set()),
    "failure": (set(), TEXT, set()),
    "system-out": (set(), set(), set()),
}
WRONG = replace(ROW, problems=["parity: moved"], measured_at="2025-01-31T12:00:00+00:00", seconds=1234.5,
                machine={"processor": "A <CPU>"}, backend={"asked": "x", "ran": "CPUExecutionProvider"})  # fmt: skip


@pytest.mark.parametrize("require_measured", [False, True])
def test_the_file_has_the_form_that_ci_servers_check(require_measured: bool) -> None:
    rows = [("a", judged(ROW, BUDGET)), ("b", judged(AWAY, BUDGET)), ("c", judged(WRONG, BUDGET))]
    found = root(*rows, require_measured=require_measured)
    assert found.tag == "testsuites"
    for element in found.iter():
        needed, optional, children = ALLOWED[element.tag]
        assert needed <= set(element.attrib) <= needed | optional, element.tag
        assert {child.tag for child in element} <= children
        if "time" in element.attrib:
            assert re.fullmatch(r"\d+\.\d{2}", element.attrib["time"])
    for suite in found:
        assert [child.tag for child in suite][:1] == ["properties"]
        outcomes = [len([*case.iter("skipped"), *case.iter("failure")]) for case in suite.iter("testcase")]
        assert max(outcomes) == 1
        places = [(case.get("classname"), case.get("name")) for case in suite.iter("testcase")]
        assert len(set(places)) == len(places)


def test_a_suite_says_what_its_numbers_must_be_read_with() -> None:
    (suite,) = root(("c", judged(WRONG, {"size_mib": 9})))
    properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
    assert properties == {"device": "host", "how": "measured", "backend": "CPUExecutionProvider",
                          "machine": "A <CPU>", "threads": "1", "retries": "0"}  # fmt: skip
    assert (suite.get("name"), suite.get("timestamp"), suite.get("time")) == ("c on host", "2025-01-31T12:00:00",
                                                                              "1234.50")  # fmt: skip
    assert [case.get("time") for case in suite.iter("testcase")] == ["1234.50", "0.00"]


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
