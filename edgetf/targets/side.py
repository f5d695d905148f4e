"""The Python that runs a runtime which cannot live beside the tool: tflite-runtime 2.14 needs numpy 1.

It is a virtual environment in the cache folder, made when it is first asked for: 6 s and 150 MB. It is written under
another name and renamed when it is whole, and one process makes it while others wait. edgetf itself is not installed
there: the runner is read from where this package lies.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from edgetf.core.errors import DeviceError
from edgetf.core.places import cache_folder
from edgetf.targets.making import made_once, quietly

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
    made_once(folder, "bin/python", _make)  # a link to a Python that has gone is none
    return python


def _make(part: Path) -> None:
    """Write the environment."""
    _quietly([sys.executable, "-m", "venv", str(part)])
    _quietly([str(part / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", *NEEDS])


def _quietly(command: list[str]) -> None:
    quietly(command, BACKEND, _NEXT)
