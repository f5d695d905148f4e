"""The result as Markdown, for a pull request, a step summary or a README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.document import rows_of, task_of_run
from edgetf.report.words import fraction, mebibytes, milliseconds, seconds, with_interval
from edgetf.tasks.classification import TASK as CLASSIFICATION
from edgetf.tasks.task import Task
from edgetf.validation.validate import DeviceRow


def rows_markdown(rows: Sequence[tuple[str, DeviceRow]], task: Task = CLASSIFICATION) -> str:
    """A table with a line a variant × device, and under it why something failed or was not measured."""
    lines = [
        f"| variant | device | {task.headline} | drop | size | p50 | speed-up | verdict |",
        "|--|--|--|--|--|--|--|--|",
    ]
    notes = []
    for name, row in rows:
        metrics = [Metric.from_json(record) for record in row.metrics]
        speedup = f"{row.speedup:.2f} ×" if row.speedup else "–"
        lines.append(
            f"| {name} | {row.device} | {with_interval(find_metric(metrics, task.headline))} "
            f"| {fraction(find_metric(metrics, task.drop) if task.drop else None)} | {mebibytes(row.size_bytes)} "
            f"| {milliseconds(row.latency_p50_ms)} | {speedup} | {row.verdict} |"
        )
        if row.verdict != "pass":
            notes += [f"- {name} on {row.device}: {why}" for why in row.why]
    return "\n".join([*lines, "", *notes, ""] if notes else [*lines, ""])


def run_markdown(record: dict[str, Any]) -> str:
    """A whole report."""
    task = task_of_run(record)
    lines = [
        f"# {record['recipe']}: {record['verdict']}",
        "",
        f"| stage | {task.headline} | parameters | size | p50 | took |",
        "|--|--|--|--|--|--|",
    ]
    for stage in record["stages"]:
        metrics = [Metric.from_json(metric) for metric in stage["metrics"]]
        params = f"{stage['params']:,}" if stage["params"] else "–"
        lines.append(
            f"| {stage['name']} | {with_interval(find_metric(metrics, task.headline))} | {params} "
            f"| {mebibytes(stage['size_bytes'])} | {milliseconds(stage['latency_p50_ms'])} "
            f"| {seconds(stage['seconds'])} |"
        )
    made = record["made"]
    return "\n".join(
        [*lines, "", rows_markdown(rows_of(record), task), f"edgetf {made['edgetf']}, commit {made['commit']}.", ""]
    )
