"""JUnit XML: one test case a variant × device × budget line, so that any CI shows what was missed and by how much."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from edgetf.validation.validate import AWAY, DeviceRow

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML 1.0 cannot hold


def junit(rows: Sequence[tuple[str, DeviceRow]]) -> str:
    """The XML text. Not measured is `skipped`; a wrong result is a failing case called `correct`."""
    suite = ElementTree.Element("testsuite", name="edgetf")
    for name, row in rows:
        place = f"{name}.{row.device}"
        case = ElementTree.SubElement(suite, "testcase", classname=place, name="correct")
        if row.how in AWAY:
            ElementTree.SubElement(case, "skipped", message="; ".join(row.why))
        elif row.problems:
            ElementTree.SubElement(case, "failure", message="; ".join(row.problems))
        for check in row.checks:
            case = ElementTree.SubElement(suite, "testcase", classname=place, name=check["key"])
            if check["verdict"] == "fail":
                ElementTree.SubElement(case, "failure", message=check["why"])
            elif check["verdict"] == "not_measured":
                ElementTree.SubElement(case, "skipped", message=check["why"])
            ElementTree.SubElement(case, "system-out").text = check["why"]
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("errors", "0")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    for element in root.iter():
        element.text = element.text and _CONTROL.sub("", element.text)
        for name, value in element.attrib.items():
            element.set(name, _CONTROL.sub("", value))
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
