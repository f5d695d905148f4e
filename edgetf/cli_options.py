"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, progress on stderr.")]
Budget = Annotated[list[str] | None, typer.Option("--budget", help="KEY=VALUE, e.g. accuracy_drop=0.02; repeatable.")]
Require = Annotated[
    bool, typer.Option("--require-measured", help="Fail (exit code 1) where a bound or a device was not measured.")
]
Junit = Annotated[Path | None, typer.Option(help="Write JUnit XML.")]
Markdown = Annotated[Path | None, typer.Option(help="Write Markdown.")]
Summary = Annotated[bool, typer.Option("--github-summary", help="Append to the step summary of GitHub Actions.")]
Annotate = Annotated[bool, typer.Option("--github-annotations", help="Print what did not pass as annotations.")]
Devices = Annotated[list[str] | None, typer.Option("--device", help="A device profile; repeatable. Default: host.")]

Provider = Annotated[
    str | None, typer.Option(help="Execution provider or delegate, e.g. CUDAExecutionProvider. Default: the device's.")
]
