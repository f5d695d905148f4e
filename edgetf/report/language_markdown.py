"""The result of a language model as Markdown, for a pull request, a step summary or a README."""

from __future__ import annotations

from typing import Any

from edgetf.report.cells import any_counted
from edgetf.report.document import rows_of
from edgetf.report.language_cells import (
    DECODING_COLUMNS,
    STAGE_COLUMNS,
    Rows,
    decoding_cells,
    row_cells,
    row_columns,
    stage_cells,
)
from edgetf.report.markdown import table_lines


def language_rows_markdown(rows: Rows) -> str:
    """A line a variant × device, why something failed or was not measured, and a line a context that was timed."""
    counted = any_counted(rows)
    lines = table_lines(row_columns(rows), (row_cells(*each, counted) for each in rows))
    notes = [f"- {name} on {row.device}: {why}" for name, row in rows if row.verdict != "pass" for why in row.why]
    lines += ["", *notes] if notes else []
    timed = decoding_cells(rows)
    lines += ["", *table_lines(DECODING_COLUMNS, timed)] if timed else []
    return "\n".join([*lines, ""])


def language_run_markdown(record: dict[str, Any]) -> str:
    """A whole report."""
    made = record["made"]
    lines = [f"# {record['recipe']}: {record['verdict']}", "", *table_lines(STAGE_COLUMNS, stage_cells(record)), ""]
    lines += [language_rows_markdown(rows_of(record)), f"edgetf {made['edgetf']}, commit {made['commit']}.", ""]
    return "\n".join(lines)
