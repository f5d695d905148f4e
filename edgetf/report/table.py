"""The result as tables: a row a stage, then a row a variant × device with its verdict."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.document import rows_of, task_of_run
from edgetf.report.words import mebibytes, milliseconds, seconds, with_interval
from edgetf.tasks.classification import TASK as CLASSIFICATION
from edgetf.tasks.task import Task
from edgetf.validation.validate import DeviceRow

_STYLE = {"pass": "green", "fail": "red", "not_measured": "yellow"}


def _metrics(records: list[dict[str, Any]]) -> list[Metric]:
    return [Metric.from_json(record) for record in records]


def _headline(metrics: list[Metric], task: Task) -> str:
    return with_interval(find_metric(metrics, task.headline) or find_metric(metrics, task.dev_name))


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} ×"


def run_tables(record: dict[str, Any]) -> Group:
    """Both tables of a report, and its verdict."""
    return Group(stage_table(record), variant_table(record), _summary(record))


def stage_table(record: dict[str, Any]) -> Table:
    """What each stage cost and bought; the task's metric and milliseconds are those of its exported file."""
    table = Table(title=f"{record['recipe']}: stages", title_justify="left")
    task = task_of_run(record)
    for column in ("stage", task.headline, "parameters", "size", "p50", "speed-up", "took"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    teacher = record["teacher"]
    names = [stage["name"] for stage in record["stages"]]
    if teacher is not None and "finetune" not in names:
        table.add_row(
            "teacher", _headline(_metrics(teacher["metrics"]), task), f"{teacher['params']:,}",
            mebibytes(teacher["size_bytes"]), milliseconds(teacher["latency_p50_ms"]), _times(1.0), "–",
        )  # fmt: skip
    for stage in record["stages"]:
        is_teacher = stage["name"] == "finetune"
        table.add_row(
            "finetune (teacher)" if is_teacher else stage["name"],
            _headline(_metrics(stage["metrics"]), task),
            f"{stage['params']:,}" if stage["params"] else "–",
            mebibytes(stage["size_bytes"]),
            milliseconds(stage["latency_p50_ms"]),
            _times(1.0 if is_teacher else stage["speedup"]),
            seconds(stage["seconds"]) + (" (reused)" if stage["cached"] else ""),
        )
    return table


def device_table(task: Task = CLASSIFICATION) -> Table:
    """The columns of a row a variant × device."""
    table = Table(title="variants", title_justify="left")
    for column in ("variant", "device", task.headline, "drop", "size", "p50", "p90", "speed-up", "peak RSS", "verdict"):
        table.add_column(column, justify="left" if column in {"variant", "device", "verdict"} else "right")
    return table


def add_device_row(table: Table, name: str, row: DeviceRow, task: Task = CLASSIFICATION) -> None:
    """One variant on one device."""
    metrics = _metrics(row.metrics)
    drop = find_metric(metrics, task.drop) if task.drop else None
    table.add_row(
        Text(name),
        Text(row.device),
        _headline(metrics, task),
        f"{drop.value:+.4f}" if drop is not None and drop.value is not None else "–",
        mebibytes(row.size_bytes),
        milliseconds(row.latency_p50_ms),
        milliseconds(row.latency_p90_ms),
        _times(row.speedup),
        mebibytes(row.peak_rss_bytes),
        Text(row.verdict, style=_STYLE[row.verdict]),
    )


def variant_table(record: dict[str, Any]) -> Table:
    """All variants of a report."""
    task = task_of_run(record)
    table = device_table(task)
    for name, row in rows_of(record):
        add_device_row(table, name, row, task)
    return table


def _summary(record: dict[str, Any]) -> Text:
    text = Text()
    budget = ", ".join(f"{key}={value:g}" for key, value in record["budget"].items()) or "none"
    text.append(f"budget: {budget} → ")
    text.append(record["verdict"], style=_STYLE[record["verdict"]])
    if record["best"]:
        text.append(f"; the fastest variant that keeps it: {record['best']}")
    text.append(f"\nrun: {record['run']}, {seconds(record['seconds'])}")
    return text


def console() -> Console:
    """stdout, wide enough for the tables where it is not a terminal."""
    made = Console()
    return made if made.is_terminal else Console(width=140)
