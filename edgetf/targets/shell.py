"""What ssh and adb have in common: a POSIX shell on the other side that runs a script and takes a file."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from edgetf.core.errors import DeviceError
from edgetf.targets.talk import Line

ANSWER_SECONDS = 10.0  # for a script that has nothing to compute


@dataclass(frozen=True)
class Done:
    """How a script ended, and what it wrote."""

    code: int
    out: str
    err: str


class Shell(Protocol):
    """A way to a device's shell."""

    name: str  # of the device
    hand: str  # what a person types before a command to be run there, for next steps in messages

    def run(self, script: str, seconds: float = ANSWER_SECONDS) -> Done:
        """Run a script to its end.

        Raises:
            DeviceError: the device cannot be reached, went away, or did not answer in time.
        """
        ...

    def send(self, path: Path, place: PurePosixPath) -> Done:
        """Write a file's bytes there; the code is not 0 where the device would not take them.

        Raises:
            DeviceError: the device cannot be reached, or went away.
        """
        ...

    def line(self, script: str) -> Line:
        """The command that runs a script with its stdin and stdout here."""
        ...

    def trouble(self, code: int, said: str) -> str | None:
        """Why the way itself failed, or None where it held and the exit code is the script's own."""
        ...


def run_here(
    command: Sequence[str],
    name: str,
    seconds: float,
    stdin: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run a client of this machine to its end.

    Raises:
        DeviceError: it is not installed, or it took longer.
    """
    try:
        done = subprocess.run(command, stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=seconds, env=env)
    except OSError as error:
        raise DeviceError(f"{name}: {command[0]} cannot be started here ({error.strerror}); install it") from None
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name}: no answer within {seconds:g} s; see that it is up and not overloaded") from None
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
