"""This machine's own shell, as ssh or adb would reach that of a board: a device that is always there."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from edgetf.targets.behind_shell import died
from edgetf.targets.shell import Done, run_here
from edgetf.targets.talk import Line


class ThisMachine:
    """See `edgetf.targets.shell.Shell`."""

    name, hand = "here", "sh -c"

    def run(self, script: str, seconds: float = 15.0) -> Done:
        return run_here(["sh", "-c", script], self.name, seconds)

    def send(self, path: Path, place: PurePosixPath) -> Done:
        return run_here(["cp", str(path), str(place)], self.name, 15.0)

    def line(self, script: str) -> Line:
        return Line(["sh", "-c", script], died=partial(died, self, "python"))

    def trouble(self, code: int, said: str) -> str | None:
        return None
