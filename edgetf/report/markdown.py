"""The result as Markdown, for a pull request, a step summary or a README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.cells import (
    COST_COLUMNS,
    LADDER_COLUMNS,
    any_counted,
    cost_cells,
    family_cells,
    family_columns,
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
from edgetf.report.words import fraction, mebibytes, times, with_interval
from edgetf.tasks.classification import TASK as CLASSIFICATION
from edgetf.tasks.task import Task
from edgetf.validation.row import DeviceRow


def rows_markdown(rows: Sequence[tuple[str, DeviceRow]], task: Task = CLASSIFICATION) -> str:
    """A table with a line a variant × device, and under it why something failed or was not measured."""
    counted = any_counted(rows)
    columns = ["variant", "device", "how", task.headline, "drop", "size", "p50", "speed-up"]
    columns += ["instructions", "verdict"] if counted else ["verdict"]
    lines, notes = [_line(columns), f"|{'--|' * len(columns)}"], []
    for name, row in rows:
        metrics = [Metric.from_json(record) for record in row.metrics]
        cells = (
            name, row.device, row.how.replace("not_measured", "–"), with_interval(find_metric(metrics, task.headline)),
            fraction(find_metric(metrics, task.drop) if task.drop else None), mebibytes(row.size_bytes),
            latency_cell(row, row.latency_p50_ms), times(row.speedup),
            *([instructions_cell(row)] if counted else []), row.verdict,
        )  # fmt: skip
        lines.append(_line(cells))
        if row.verdict != "pass":
            notes += [f"- {name} on {row.device}: {why}" for why in row.why]
    return "\n".join([*lines, "", *notes, ""] if notes else [*lines, ""])


def run_markdown(record: dict[str, Any]) -> str:
    """A whole report."""
    task = task_of_run(record)
    lines = [f"# {record['recipe']}: {record['verdict']}", ""]
    lines += [
        *table_lines(stage_columns(task), stage_cells(record)),
        "",
        *table_lines(COST_COLUMNS, cost_cells(record)),
        "",
    ]
    remarks = [f"- {line}" for line in remark_lines(record)]
    made = record["made"]
    lines += [*remarks, *([""] if remarks else []), rows_markdown(rows_of(record), task)]
    for found in record.get("ladder", []):
        lines += [f"{ladder_title(found)}:", "", *table_lines(LADDER_COLUMNS, ladder_cells(found)), ""]
    lines += _family(members_of(record), task)
    return "\n".join([*lines, f"edgetf {made['edgetf']}, commit {made['commit']}.", ""])


def _family(members: Sequence[Member], task: Task) -> list[str]:
    """The members of a family, each by its best variant."""
    if not members:
        return []
    note = "By the best variant of each; ● no other member is both as fast and as good."
    return [*table_lines(family_columns(task), map(family_cells, members)), "", note, ""]


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, line by line."""
    return [_line(columns), f"|{'--|' * len(columns)}", *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"
