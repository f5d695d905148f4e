"""``edgetf report``."""

from __future__ import annotations

from pathlib import Path

from edgetf.commands.output import exit_code_of_run, print_json
from edgetf.commands.reports import Reports
from edgetf.pipeline.run import open_run
from edgetf.report.document import rows_of, task_of_run
from edgetf.report.markdown import run_markdown
from edgetf.report.table import console, run_tables


def report_command(run: Path, reports: Reports) -> int:
    """Print a finished run's report; the exit code is that of the run."""
    reports.check()
    record = open_run(run)
    title, rows, task = f"edgetf {record['recipe']}", rows_of(record), task_of_run(record)
    reports.write(title, record["verdict"], rows, task, run_markdown(record))
    if reports.as_json:
        print_json(record)
    else:
        out = console()
        out.print(run_tables(record))
        for name, row in rows_of(record):
            for why in row.why if row.verdict != "pass" else []:
                out.print(f"{name} on {row.device}: {why}", markup=False, highlight=False)
    return exit_code_of_run(record, reports.require_measured)
