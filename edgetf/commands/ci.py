"""``edgetf ci init``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetf.ci.workflows import ANYWHERE, Project, write_workflows
from edgetf.commands.output import print_json
from edgetf.core.errors import EXIT_FINE

EDIT = {
    "hosted": "BUDGET under env: the bounds; speedup belongs to the runner's kind of processor",
    "emulated-arm64": "BUDGET under env: instructions_ratio=1 allows as many as the teacher's fp32 file executes",
    "raspberry-pi": "BUDGET under env: add speedup once it was measured; the board's runner has the label raspberry-pi",
    "jetson": "BUDGET under env: add speedup once it was measured; the board's runner has the label jetson",
}


def ci_init_command(kinds: Sequence[str], project: Project, out: Path, force: bool, as_json: bool) -> int:
    """Write the workflows, and say what to edit in them."""
    kinds = list(dict.fromkeys(kinds or ANYWHERE))
    written = write_workflows(kinds, project, out, force)
    if as_json:
        files = [{"path": str(path), "edit": EDIT[kind]} for path, kind in zip(written, kinds, strict=True)]
        print_json({"schema": 1, "written": files})
        return EXIT_FINE
    for path, kind in zip(written, kinds, strict=True):
        print(f"{path}\n    {EDIT[kind]}")
    return EXIT_FINE
