"""Folders of the cache that take a while to make: whole or not there, made by one process while others wait."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgetf.core.errors import DeviceError
from edgetf.core.files import guard_disk


def made_once(folder: Path, proof: str, write: Callable[[Path], None]) -> Path:
    """`folder`, which `write` fills under another name if the file `proof` is not in it yet.

    Raises:
        DeviceError: what `write` raises.
        ArtifactError: the disk is full, or nobody may write there.
    """
    if not (folder / proof).is_file():
        with guard_disk(folder), alone(folder.with_suffix(".lock")):
            if not (folder / proof).is_file():
                _make(folder, write)
    return folder


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for; the kernel lets it go when a process ends, however it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, write: Callable[[Path], None]) -> None:
    """Write beside the place, then give it its name."""
    part = folder.with_suffix(".partial")
    for left in (folder, part):  # by a process that was killed, or with a proof that has gone
        shutil.rmtree(left, ignore_errors=True)
    try:
        write(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def quietly(command: Sequence[str], what: str, next_step: str, env: Mapping[str, str] | None = None) -> str:
    """What a command prints; where it fails, its own last words in one line. `env` is added to the environment.

    Raises:
        DeviceError: it is not there, or it fails; `what` is not available then, and `next_step` says what helps.
    """
    whole = {**os.environ, **(env or {})}
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=whole)
    except FileNotFoundError:
        raise DeviceError(f"{what}: not available, {command[0]} is not installed; {next_step}") from None
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith(("ERROR", "E:"))] or said
        reason = " ".join(" ".join(errors[-2:]).split())[:300] or "no message"
        raise DeviceError(f"{what}: not available, {called(command)} failed ({reason}); {next_step}")
    return done.stdout


def called(command: Sequence[str]) -> str:
    """What a command line runs, in a word.

    >>> called(["/usr/bin/python3", "-m", "pip", "install", "x"]), called(["apt-get", "-qq", "update"])
    ('pip', 'apt-get')
    """
    return command[2] if "-m" in command[1:2] else Path(command[0]).name
