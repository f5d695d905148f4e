"""The result as tables: a row a stage, then a row a variant × device with its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.cells import (
    COST_COLUMNS,
    LADDER_COLUMNS,
    any_counted,
    cost_cells,
    device_cell,
    family_cells,
    family_columns,
    headline_of,
    instructions_cell,
    ladder_cells,
    ladder_title,
    latency_cell,
    stage_cells,
    stage_columns,
)
from edgetf.report.cost import remark_lines
from edgetf.report.document import rows_of, task_of_run
from edgetf.report.family import Member, members_of
from edgetf.report.words import mebibytes, seconds, signed, times
from edgetf.tasks.classification import TASK as CLASSIFICATION
from edgetf.tasks.task import Task
from edgetf.validation.row import DeviceRow

_STYLE = {"pass": "green", "fail": "red", "not_measured": "yellow"}


def run_tables(record: dict[str, Any]) -> Group:
    """The tables of a report, and its verdict."""
    family = members_of(record)
    tables = [stage_table(record), cost_table(record), variant_table(record)]
    found = record.get("ladder", [])
    tables += [plain_table(ladder_title(each), LADDER_COLUMNS, ladder_cells(each), left=2) for each in found]
    return Group(*tables, *([family_table(family, task_of_run(record))] if family else []), summary(record))


def stage_table(record: dict[str, Any]) -> Table:
    """What each stage cost and bought; the task's metric and milliseconds are those of its exported file."""
    return plain_table(f"{record['recipe']}: stages", stage_columns(task_of_run(record)), stage_cells(record), left=1)


def cost_table(record: dict[str, Any]) -> Table:
    """What is counted of every variant beside what was measured, with ratios to the teacher."""
    return plain_table("variants beside the teacher, counted and measured", COST_COLUMNS, cost_cells(record), left=1)


def family_table(members: list[Member], task: Task) -> Table:
    """The members of a family, each by its best variant; what no other member beats is on the front."""
    return plain_table("family, each by its best variant", family_columns(task), map(family_cells, members), left=2)


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> Table:
    """A table whose first columns, so many, hold names and the others numbers; a verdict has its color."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if number < left or column == "verdict" else "right"
        whole = number < left or column == "verdict"  # a name that is cut short names nothing
        table.add_column(column, justify=justify, no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLE.get(cell, "")) for cell in row))
    return table


def device_table(rows: Sequence[tuple[str, DeviceRow]], task: Task = CLASSIFICATION) -> Table:
    """A row a variant × device."""
    counted = any_counted(rows)
    columns = ["variant", "device", task.headline, "drop", "size", "p50", "p90", "speed-up", "peak RSS"]
    columns += ["instructions", "verdict"] if counted else ["verdict"]
    return plain_table("variants", columns, (_device_cells(name, row, task, counted) for name, row in rows), left=2)


def _device_cells(name: str, row: DeviceRow, task: Task, counted: bool) -> tuple[str, ...]:
    """One variant on one device."""
    metrics = [Metric.from_json(record) for record in row.metrics]
    drop = find_metric(metrics, task.drop) if task.drop else None
    return (
        name, device_cell(row), headline_of(row.metrics, task), signed(drop), mebibytes(row.size_bytes),
        latency_cell(row, row.latency_p50_ms), latency_cell(row, row.latency_p90_ms), times(row.speedup),
        mebibytes(row.peak_rss_bytes), *([instructions_cell(row)] if counted else []), row.verdict,
    )  # fmt: skip


def variant_table(record: dict[str, Any]) -> Table:
    """All variants of a report."""
    return device_table(rows_of(record), task_of_run(record))


def summary(record: dict[str, Any]) -> Text:
    """Budget, verdict, remarks, and where the run is."""
    text = Text()
    budget = ", ".join(f"{key}={value:g}" for key, value in record["budget"].items()) or "none"
    text.append(f"budget: {budget} → ")
    text.append(record["verdict"], style=_STYLE[record["verdict"]])
    if record["best"]:
        text.append(f"; the fastest variant that keeps it: {record['best']}")
    passed = [member["name"] for member in record.get("family", []) if member["verdict"] == "pass"]
    if record.get("family"):
        text.append(f"; members that keep it: {', '.join(passed) or 'none'}")
    for line in remark_lines(record):
        text.append(f"\n{line}", style="yellow")
    text.append(f"\nrun: {record['run']}, {seconds(record['seconds'])}")
    return text


def console() -> Console:
    """stdout, wide enough for the tables where it is not a terminal."""
    made = Console()
    return made if made.is_terminal else Console(width=160)
