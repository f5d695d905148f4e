"""The result as Markdown, for a pull request, a step summary or a README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.document import rows_of
from edgetf.report.family import Member, members_of
from edgetf.report.words import fraction, mebibytes, milliseconds, seconds, with_interval
from edgetf.validation.validate import DeviceRow


def rows_markdown(rows: Sequence[tuple[str, DeviceRow]]) -> str:
    """A table with a line a variant × device, and under it why something failed or was not measured."""
    lines = [
        "| variant | device | accuracy | drop | size | p50 | speed-up | verdict |",
        "|--|--|--|--|--|--|--|--|",
    ]
    notes = []
    for name, row in rows:
        metrics = [Metric.from_json(record) for record in row.metrics]
        speedup = f"{row.speedup:.2f} ×" if row.speedup else "–"
        lines.append(
            f"| {name} | {row.device} | {with_interval(find_metric(metrics, 'accuracy'))} "
            f"| {fraction(find_metric(metrics, 'accuracy_drop'))} | {mebibytes(row.size_bytes)} "
            f"| {milliseconds(row.latency_p50_ms)} | {speedup} | {row.verdict} |"
        )
        if row.verdict != "pass":
            notes += [f"- {name} on {row.device}: {why}" for why in row.why]
    return "\n".join([*lines, "", *notes, ""] if notes else [*lines, ""])


def run_markdown(record: dict[str, Any]) -> str:
    """A whole report."""
    lines = [
        f"# {record['recipe']}: {record['verdict']}",
        "",
        "| stage | accuracy | parameters | size | p50 | took |",
        "|--|--|--|--|--|--|",
    ]
    for stage in record["stages"]:
        metrics = [Metric.from_json(metric) for metric in stage["metrics"]]
        params = f"{stage['params']:,}" if stage["params"] else "–"
        lines.append(
            f"| {stage['name']} | {with_interval(find_metric(metrics, 'accuracy'))} | {params} "
            f"| {mebibytes(stage['size_bytes'])} | {milliseconds(stage['latency_p50_ms'])} "
            f"| {seconds(stage['seconds'])} |"
        )
    made = record["made"]
    lines += ["", rows_markdown(rows_of(record)), *_family(members_of(record))]
    return "\n".join([*lines, f"edgetf {made['edgetf']}, commit {made['commit']}.", ""])


def _family(members: Sequence[Member]) -> list[str]:
    """The members of a family, each by its best variant."""
    if not members:
        return []
    lines = [
        "| member | by its best variant | accuracy | drop | parameters | size | p50 | speed-up | front | verdict |",
        "|--|--|--|--|--|--|--|--|--|--|",
    ]
    for member in members:
        row = member.row
        speedup = f"{row.speedup:.2f} ×" if row and row.speedup else "–"
        lines.append(
            f"| {member.name} | {member.variant or '–'} | {with_interval(member.accuracy)} | {fraction(member.drop)} "
            f"| {f'{member.params:,}' if member.params else '–'} | {mebibytes(row.size_bytes if row else None)} "
            f"| {milliseconds(row.latency_p50_ms if row else None)} | {speedup} "
            f"| {'●' if member.in_front else ''} | {member.verdict} |"
        )
    return [*lines, "", "● no other member is both as fast and as accurate.", ""]
