"""``edgetf report``."""

from __future__ import annotations

from pathlib import Path

from edgetf.commands.output import exit_code_of_run, print_json
from edgetf.commands.reports import Reports
from edgetf.pipeline.run import open_run
from edgetf.report.document import rows_of
from edgetf.report.pages import shown_run, task_named, written_rows, written_run
from edgetf.report.table import console


def report_command(run: Path, reports: Reports) -> int:
    """Print a finished run's report; the exit code is that of the run."""
    reports.check()
    record = open_run(run)
    title, rows = f"edgetf {record['recipe']}", rows_of(record)
    reports.write(title, record["verdict"], rows, written_rows(rows, task_named(record)), written_run(record))
    if reports.as_json:
        print_json(record)
    else:
        out = console()
        out.print(shown_run(record))
        for name, row in rows_of(record):
            for why in row.why if row.verdict != "pass" else []:
                out.print(f"{name} on {row.device}: {why}", markup=False, highlight=False)
    return exit_code_of_run(record, reports.require_measured)
