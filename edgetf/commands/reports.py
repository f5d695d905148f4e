"""What a gate leaves beside its exit code: JUnit XML, Markdown, and what GitHub Actions shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetf.core.budget import Verdict
from edgetf.core.errors import ConfigError
from edgetf.core.files import guard_disk
from edgetf.report.github import annotation_lines, step_summary
from edgetf.report.junit import junit as to_junit
from edgetf.validation.row import DeviceRow

SUMMARY = "GITHUB_STEP_SUMMARY"
Named = Sequence[tuple[str, DeviceRow]]


@dataclass(frozen=True)
class Reports:
    """What the command line asks for."""

    junit: Path | None = None
    markdown: Path | None = None
    github_summary: bool = False
    github_annotations: bool = False
    require_measured: bool = False
    as_json: bool = False

    def check(self) -> None:
        """Before any work.

        Raises:
            ConfigError: an option cannot be followed here.
        """
        problems = []
        if self.github_summary and not os.environ.get(SUMMARY):
            problems.append(f"--github-summary: {SUMMARY} is not set, GitHub Actions sets it; use --markdown FILE here")
        if self.github_annotations and self.as_json:
            problems.append("--github-annotations: both it and --json write on stdout; give one of them")
        if problems:
            raise ConfigError(problems)

    def write(self, title: str, verdict: Verdict, rows: Named, table: str, markdown: str) -> None:
        """Write what was asked for; `table` is that of the rows in Markdown, `markdown` all there is to say.

        Raises:
            ConfigError: a file's folder does not exist.
        """
        if self.junit is not None:
            _write(self.junit, to_junit(rows, self.require_measured))
        if self.markdown is not None:
            _write(self.markdown, markdown)
        if self.github_summary:
            _write(Path(os.environ[SUMMARY]), step_summary(title, verdict, rows, table), append=True)
        if self.github_annotations:
            for line in annotation_lines(rows, self.require_measured):
                print(line)
        if self.require_measured:
            say_unmeasured(rows)


def say_unmeasured(rows: Named) -> None:
    """Name on stderr every device and bound that was not measured, with its reason."""
    for name, row in rows:
        for why in row.unmeasured():
            print(f"edgetf: --require-measured: {name} on {row.device}: {why}", file=sys.stderr)


def _write(path: Path, text: str, append: bool = False) -> None:
    """Write a report file, or append to it.

    Raises:
        ConfigError: its folder does not exist.
    """
    try:
        with guard_disk(path), path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{path}: cannot be written; give a file in a folder that exists") from None
