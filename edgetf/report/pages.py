"""Which tables a result is shown in: those of a language model, or those of an encoder's task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import RenderableType
from typing_extensions import assert_never

from edgetf.core.task_names import CLASSIFICATION, LANGUAGE_MODELING, AnyTask
from edgetf.report.language_markdown import language_rows_markdown, language_run_markdown
from edgetf.report.language_table import language_device_table, language_run_tables
from edgetf.report.markdown import rows_markdown, run_markdown
from edgetf.report.table import device_table, run_tables
from edgetf.tasks import task_of
from edgetf.validation.row import DeviceRow

Rows = Sequence[tuple[str, DeviceRow]]


def task_named(record: dict[str, Any]) -> AnyTask:
    """The task of a report; those of before there were several are of the first one."""
    named: AnyTask = record.get("resolved_recipe", {}).get("task", CLASSIFICATION)
    return named


def shown_run(record: dict[str, Any]) -> RenderableType:
    """A whole report for the terminal."""
    return language_run_tables(record) if task_named(record) == LANGUAGE_MODELING else run_tables(record)


def written_run(record: dict[str, Any]) -> str:
    """A whole report in Markdown."""
    return language_run_markdown(record) if task_named(record) == LANGUAGE_MODELING else run_markdown(record)


def shown_rows(rows: Rows, task: AnyTask) -> RenderableType:
    """Variants on devices for the terminal."""
    match task:
        case "language_modeling":
            return language_device_table(rows)
        case "sequence_classification" | "regression" | "sentence_embeddings" | "token_classification":
            return device_table(rows, task_of(task))
        case _:
            assert_never(task)


def written_rows(rows: Rows, task: AnyTask) -> str:
    """Variants on devices in Markdown."""
    match task:
        case "language_modeling":
            return language_rows_markdown(rows)
        case "sequence_classification" | "regression" | "sentence_embeddings" | "token_classification":
            return rows_markdown(rows, task_of(task))
        case _:
            assert_never(task)
