"""A board or a phone that has a shell: files go there by their hash, the runner answers from there.

The runner is edgetf as it is installed there, or one zip application that is sent like any other file.
"""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath

from edgetf.core.device import DeviceProfile
from edgetf.core.errors import DeviceError, EdgetfError
from edgetf.core.files import file_sha256
from edgetf.core.reach import Adb, Ssh
from edgetf.runtime.lease import FORSAKEN
from edgetf.targets import side
from edgetf.targets.delivery import deliver
from edgetf.targets.parcel import models_of, pack
from edgetf.targets.shell import Shell
from edgetf.targets.talk import ask, no_result
from edgetf.targets.target import NO_MILLISECONDS, TIMED, Answer, How, Request, Tick

PATIENCE_SECONDS = 10.0  # the runner shows every other second that it lives
START_SECONDS = 90.0  # a slow board unpacks and imports for so long; a dead line is seen by its own client before
TOGETHER = frozenset({"ort", "litert"})
_NOT_FOUND, _NOT_RUN, _KILLED = 127, 126, 137  # exit codes of a POSIX shell


class BehindShell:
    """A device behind a shell."""

    counts = False

    def __init__(self, shell: Shell, device: DeviceProfile, way: Ssh | Adb, how: How = "measured") -> None:
        self.how = how
        self._shell, self._folder = shell, PurePosixPath(way.folder)
        self._python, self._runner, self._runtimes = way.python, way.runner, device.runtimes
        self._applications: dict[frozenset[str], Path] = {}
        self._delivered: set[PurePosixPath] = set()

    def ask(self, request: Request, tick: Tick | None = None) -> Answer:
        """See `Target.ask`; what gives milliseconds is refused where the device is an emulated one."""
        if self.how == "emulated" and request["do"] in TIMED:
            raise DeviceError(f"{self._shell.name}: {NO_MILLISECONDS}")
        parcel = pack(request, self._folder)
        files = dict(parcel.files)
        if self._runner == "installed":
            start = f"{shlex.quote(self._python)} -m edgetf.runtime.runner"
        else:
            application = self._application(frozenset(model["backend"] for model in models_of(request)))
            place = self._folder / f"{file_sha256(application)[:16]}.pyz"
            files[place] = application
            start = f"{shlex.quote(self._python)} {shlex.quote(str(place))}"
        if not files.keys() <= self._delivered:
            deliver(self._shell, self._python, files)
            self._delivered |= files.keys()
        # The shell stays in between, because ssh tells a killed shell from a broken line no better than we could.
        script = f"OMP_NUM_THREADS={int(request['threads'])} TOKENIZERS_PARALLELISM=false {start}; exit $?"
        try:
            return ask(self._shell.line(script), parcel.request, tick)
        except EdgetfError as error:
            words = str(error)
            own = words.startswith(f"{self._shell.name}: ")
            raise type(error)(words if own else f"{self._shell.name}: {words}") from None

    def _application(self, backends: frozenset[str]) -> Path:
        from edgetf.targets.application import application_for
        from edgetf.targets.interpreter import interpreter_of

        if side.BACKEND not in backends:  # one for all that live together, so that little is sent
            backends |= TOGETHER & set(self._runtimes)
        if backends not in self._applications:
            there = interpreter_of(self._shell, self._python)
            self._applications[backends] = application_for(backends, there, self._shell.name)
        return self._applications[backends]


def died(shell: Shell, python: str, code: int, said: str) -> str:
    """Words for a runner on a board that ended without a result."""
    trouble = shell.trouble(code, said)
    if trouble is not None:
        return trouble
    if code == FORSAKEN:
        return f"{shell.name}: the connection was lost while the runner worked, so it ended itself; try again"
    if "No module named edgetf" in said or "No module named 'edgetf'" in said:
        return (
            f"{shell.name}: edgetf is not installed for {python} there; run: "
            f"{shell.hand} {python} -m pip install 'edgetf[ort]', or set runner: zip in the profile"
        )
    if code in {_NOT_FOUND, _NOT_RUN}:
        return no_python(shell, python)
    if code == _KILLED:
        return f"{shell.name}: the runner was killed there, most often for want of memory: {said or 'no message'}"
    return f"{shell.name}: {no_result(code, said)}"


def no_python(shell: Shell, python: str) -> str:
    """Words for a board without that Python."""
    return f"{shell.name}: {python} cannot be run there; install Python 3.10 or newer, or set python in the profile"


def checked(shell: Shell, code: int, said: str) -> None:
    """Pass where the way to the device held.

    Raises:
        DeviceError: it broke.
    """
    trouble = shell.trouble(code, said)
    if trouble is not None:
        raise DeviceError(trouble)
