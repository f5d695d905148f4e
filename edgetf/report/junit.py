"""JUnit XML: one test case a variant × device × budget line, so that any CI shows what was missed and by how much.

The form is the strictest that CI servers check against, Jenkins' ``junit-10.xsd`` (github.com/jenkinsci/xunit-plugin):
a suite has its counts, its properties before its cases, and times as plain decimals; the root counts no skipped cases.
A suite is one variant on one device; the seconds that validating took are those of its first case, `correct`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from edgetf.validation.row import AWAY, DeviceRow

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML 1.0 cannot hold


def junit(rows: Sequence[tuple[str, DeviceRow]], require_measured: bool = False) -> str:
    """The XML text.

    What was not measured is `skipped`, or where measuring is required a failure; a wrong result is a failing case
    called `correct`.
    """
    root = Element("testsuites", name="edgetf")
    for name, row in rows:
        root.append(_suite(name, row, require_measured))
    _count(root, sum(row.seconds or 0 for _, row in rows))
    indent(root)
    for element in root.iter():
        element.text = element.text and _CONTROL.sub("", element.text)
        for key, value in element.attrib.items():
            element.set(key, _CONTROL.sub("", value))
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(name: str, row: DeviceRow, require_measured: bool) -> Element:
    suite = Element("testsuite", name=f"{name} on {row.device}")
    properties = SubElement(suite, "properties")
    for key, value in _properties(row).items():
        SubElement(properties, "property", name=key, value=value)
    seconds, place, unmeasured = row.seconds or 0, f"{name}.{row.device}", "failure" if require_measured else "skipped"
    case = SubElement(suite, "testcase", classname=place, name="correct", time=f"{seconds:.2f}")
    if row.problems:
        SubElement(case, "failure", message="; ".join(row.problems), type="wrong")
    elif row.how in AWAY:
        SubElement(case, unmeasured, message="; ".join(row.why), type="not_measured")
    for check in row.checks:
        case = SubElement(suite, "testcase", classname=place, name=check["key"], time="0.00")
        if check["verdict"] == "fail":
            SubElement(case, "failure", message=check["why"], type="missed")
        elif check["verdict"] == "not_measured":
            SubElement(case, unmeasured, message=check["why"], type="not_measured")
        SubElement(case, "system-out").text = check["why"]
    _count(suite, seconds)
    suite.set("skipped", str(len(suite.findall(".//testcase/skipped"))))
    if row.measured_at:
        suite.set("timestamp", row.measured_at[: len("2025-01-31T12:00:00")])
    return suite


def _properties(row: DeviceRow) -> Mapping[str, str]:
    """What a number must be read with; what is not known is left out."""
    known = {
        "device": row.device,
        "how": row.how,
        "backend": row.backend.get("ran"),
        "machine": row.machine.get("processor"),
        "threads": row.threads,
        "seq_len": row.seq_len,
        "samples": row.n or None,
        "retries": len(row.retries),
        "instructions": row.instructions,
    }
    return {key: str(value) for key, value in known.items() if value is not None}


def _count(element: Element, seconds: float) -> None:
    """Set the counts that a suite and the root both have."""
    counts = {"tests": ".//testcase", "failures": ".//testcase/failure", "errors": ".//testcase/error"}
    for key, path in counts.items():
        element.set(key, str(len(element.findall(path))))
    element.set("time", f"{seconds:.2f}")
