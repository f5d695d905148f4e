"""The result of a language model as tables: a row a stage, a row a variant × device, and a row a context."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table

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
from edgetf.report.table import plain_table, summary


def language_run_tables(record: dict[str, Any]) -> Group:
    """The tables of a report, and its verdict."""
    stages = plain_table(f"{record['recipe']}: stages", STAGE_COLUMNS, stage_cells(record), left=1)
    return Group(stages, language_device_table(rows_of(record)), summary(record))


def language_device_table(rows: Rows) -> Group:
    """A row a variant × device, and one a context that was timed."""
    counted = any_counted(rows)
    variants = plain_table("variants", row_columns(rows), (row_cells(*each, counted) for each in rows), left=2)
    return Group(variants, *([decoding_table(rows)] if any(row.decoding for _, row in rows) else []))


def decoding_table(rows: Rows) -> Table:
    """First token, prefill and decoding at each context, beside the roof that memory puts over it."""
    return plain_table("tokens a second behind so many others", DECODING_COLUMNS, decoding_cells(rows), left=2)
