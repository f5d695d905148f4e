"""Printing a document, and the exit code of measured rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from edgetf.core.errors import EXIT_BUDGET_MISSED, EXIT_FINE, DeviceError, ParityError
from edgetf.report.document import rows_of
from edgetf.validation.row import AWAY, DeviceRow


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def exit_code_of_run(record: dict[str, Any], require_measured: bool = False) -> int:
    """The same for a run's report: 1 only if no variant keeps the budget, or no rung the accuracy."""
    rows = [row for _, row in rows_of(record)]
    code = exit_code_of(rows)
    if require_measured and code != ParityError.exit_code and any(row.unmeasured() for row in rows):
        return EXIT_BUDGET_MISSED
    if code not in {EXIT_FINE, EXIT_BUDGET_MISSED}:
        return code
    return EXIT_BUDGET_MISSED if record["verdict"] == "fail" else EXIT_FINE


def exit_code_of(rows: Sequence[DeviceRow], require_measured: bool = False) -> int:
    """5 if a result is wrong, 1 if a budget is missed, 4 if nothing could be measured, else 0.

    Where measuring is required, a device or a bound that was not measured counts as missed.
    """
    if any(row.problems for row in rows):
        return ParityError.exit_code
    if any(row.verdict == "fail" or (require_measured and row.unmeasured()) for row in rows):
        return EXIT_BUDGET_MISSED
    if rows and all(row.how in AWAY for row in rows):
        return DeviceError.exit_code
    return EXIT_FINE
