"""``edgetf report``."""

from __future__ import annotations

from pathlib import Path

from edgetf.commands.output import exit_code_of_run, print_json
from edgetf.commands.validate import write_report
from edgetf.pipeline.run import open_run
from edgetf.report.document import rows_of
from edgetf.report.junit import junit as to_junit
from edgetf.report.markdown import run_markdown
from edgetf.report.table import console, run_tables


def report_command(run: Path, markdown: Path | None, junit: Path | None, as_json: bool) -> int:
    """Print a finished run's report; the exit code is that of the run."""
    record = open_run(run)
    if markdown is not None:
        write_report(markdown, run_markdown(record))
    if junit is not None:
        write_report(junit, to_junit(rows_of(record)))
    if as_json:
        print_json(record)
    else:
        out = console()
        out.print(run_tables(record))
        for name, row in rows_of(record):
            for why in row.why if row.verdict != "pass" else []:
                out.print(f"{name} on {row.device}: {why}", markup=False, highlight=False)
    return exit_code_of_run(record)
