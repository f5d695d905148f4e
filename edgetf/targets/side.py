"""The Python that runs a runtime which cannot live beside the tool: tflite-runtime 2.14 needs numpy 1.

It is a virtual environment in the cache folder, made when it is first asked for: 6 s and 150 MB. It is written under
another name and renamed when it is whole, and one process makes it while others wait. edgetf itself is not installed
there: the runner is read from where this package lies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgetf.core.errors import DeviceError
from edgetf.core.files import guard_disk
from edgetf.core.places import cache_folder

BACKEND = "tflite_runtime"
NEEDS = ("tflite-runtime==2.14.0", "numpy<2", "tokenizers>=0.20")
PYTHON = (3, 11)  # the last one that tflite-runtime has wheels for
VARIABLE = "EDGETF_TFLITE_RUNTIME_PYTHON"
_NEXT = f"set {VARIABLE} to a Python that has {', '.join(NEEDS)}"
_PACKAGES = Path(__file__).resolve().parents[2]
# The tool's own packages come last, or an installed edgetf would bring its numpy along.
_RUN = f"import sys; sys.path.append({str(_PACKAGES)!r}); from edgetf.runtime.runner import main; sys.exit(main())"


def runner_command(backends: set[str]) -> list[str]:
    """The command line of a runner that has these backends.

    Raises:
        DeviceError: no process has them all, or their environment cannot be made.
    """
    if BACKEND not in backends:
        return [sys.executable, "-m", "edgetf.runtime.runner"]
    others = sorted(backends - {BACKEND})
    if others:
        raise DeviceError(f"{BACKEND}: runs in a process of its own, without {', '.join(others)}; time them one by one")
    return [str(_python()), "-c", _RUN]


def _python() -> Path:
    """The named Python, or that of the environment, which is made if it is not there.

    Raises:
        DeviceError: it is not there, this Python is another one than tflite-runtime has wheels for, or pip fails.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise DeviceError(f"{VARIABLE}: got {named}, allowed: a Python to run; {_NEXT}")
        return Path(named)
    if sys.version_info[:2] != PYTHON:
        here, wanted = (".".join(map(str, version)) for version in (sys.version_info[:2], PYTHON))
        raise DeviceError(f"{BACKEND}: not available for Python {here}, allowed: {wanted}; {_NEXT}")
    digest = hashlib.sha256("\n".join((*NEEDS, sys.base_prefix)).encode()).hexdigest()[:12]
    folder = cache_folder() / "environments" / f"{BACKEND}-{digest}"
    python = folder / "bin" / "python"
    if not python.is_file():  # a link to a Python that has gone is none
        with guard_disk(folder), _alone(folder.with_suffix(".lock")):
            if not python.is_file():
                _make(folder)
    return python


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for; the kernel lets it go when a process ends, however it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path) -> None:
    """Write the environment beside its place, then give it its name."""
    part = folder.with_suffix(".partial")
    for left in (folder, part):  # by a process that was killed, or with a Python that has gone
        shutil.rmtree(left, ignore_errors=True)
    try:
        _quietly([sys.executable, "-m", "venv", str(part)])
        _quietly([str(part / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", *NEEDS])
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _quietly(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said
        reason = " ".join(" ".join(errors[-2:]).split())[:300] or "no message"
        raise DeviceError(f"{BACKEND}: not available, {command[2]} failed ({reason}); {_NEXT}")
