"""What GitHub Actions shows of a gate: a step summary, verdict first, and an annotation for all that did not pass.

Sources: "Workflow commands for GitHub Actions" and "Adding a job summary", docs.github.com. In an annotation's text
per cent and line ends are escaped, in its title also colons and commas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetf.core.budget import Verdict, relation
from edgetf.validation.row import DeviceRow

_MARK = {"pass": "✅", "fail": "❌", "not_measured": "⚪"}


def step_summary(title: str, verdict: Verdict, rows: Sequence[tuple[str, DeviceRow]], table: str) -> str:
    """The verdict, the `table` of variants in Markdown, and every bound folded away below it."""
    lines = [f"## {_MARK[verdict]} {title}: {verdict}", "", table]
    checks = [(name, row, check) for name, row in rows for check in row.checks]
    if checks:
        lines += ["<details><summary>Every bound</summary>", "", "| | variant | device | bound | measured | said |"]
        lines += ["|--|--|--|--|--|--|", *(_check_line(*each) for each in checks), "", "</details>", ""]
    return "\n".join(lines)


def _check_line(name: str, row: DeviceRow, check: dict[str, Any]) -> str:
    """A bound as a row of a table."""
    value = "–" if check["value"] is None else f"{check['value']:.4g}"
    bound = f"{check['key']} {relation(check['key'])} {check['limit']:g}".replace("<", "&lt;").replace(">", "&gt;")
    said = check["why"].replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
    return f"| {_MARK[check['verdict']]} | {name} | {row.device} | {bound} | {value} | {said} |"


def annotation_lines(rows: Sequence[tuple[str, DeviceRow]], require_measured: bool = False) -> list[str]:
    """Workflow commands: an error for what fails the gate, a warning for what was not measured.

    >>> row = DeviceRow("host", problems=["50 % of the logits moved"], verdict="fail")
    >>> annotation_lines([("onnx-fp32", row)])
    ['::error title=onnx-fp32 on host::50 %25 of the logits moved']
    """
    found = []
    for name, row in rows:
        said = [("error", problem) for problem in row.problems]
        said += [("error", check["why"]) for check in row.checks if check["verdict"] == "fail"]
        level = "error" if require_measured else "warning"
        said += [(level, why) for why in row.unmeasured()]
        title = _escaped(f"{name} on {row.device}").replace(":", "%3A").replace(",", "%2C")
        found += [f"::{level} title={title}::{_escaped(text)}" for level, text in said]
    return found


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
