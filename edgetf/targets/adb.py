"""A phone or a board that the `adb` client reaches, over USB or TCP, with the user's own adb server and keys.

The runner needs a CPython on the device: one of a Linux board with adbd, or of an app such as Termux that adb's shell
may start. Python for Android's own C library finds no wheel of a runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from edgetf.core.device import DeviceProfile
from edgetf.core.errors import DeviceError
from edgetf.core.reach import Adb
from edgetf.targets.behind_shell import PATIENCE_SECONDS, START_SECONDS, BehindShell, checked, died
from edgetf.targets.shell import ANSWER_SECONDS, Done, run_here
from edgetf.targets.talk import Line

LINE_BYTES_PER_SECOND = 500_000  # a slower line is taken for a dead one
_ENDED = "edgetf-ended"  # adb's exit code is 0 where the device went away before a command ended

# The first that fits counts; in what adb itself says, not the device's shell.
_REASONS = (
    ("unauthorized", "it has not allowed this machine; unlock it and accept the question on its screen"),
    ("authorizing", "it has not allowed this machine; unlock it and accept the question on its screen"),
    ("offline", "it is attached but offline; plug it in anew, or for a network address: adb disconnect {serial}"),
    ("more than one device", "several devices are attached; set serial in the profile to one of `adb devices`"),
    ("no devices", "no device is attached; plug one in with USB debugging on, or: adb connect HOST:PORT"),
    ("not found", "it is not attached; see `adb devices`, and for a network address first: adb connect {serial}"),
    ("cannot connect to daemon", "the adb server does not start; see: adb start-server"),
    ("failed to start daemon", "the adb server does not start; see: adb start-server"),
)


class AdbTarget(BehindShell):
    """A device reached by adb."""

    def __init__(self, device: DeviceProfile, adb: Adb) -> None:
        super().__init__(AdbShell(device.name, adb), device, adb)


class AdbShell:
    """The shell of a device.

    Raises:
        DeviceError: it is not attached, or does not take commands.
    """

    def __init__(self, name: str, adb: Adb) -> None:
        self.name, self._adb = name, adb
        self._client = ["adb", *(["-s", adb.serial] if adb.serial else [])]
        self.hand = " ".join([*self._client, "shell"])
        state = run_here([*self._client, "get-state"], name, ANSWER_SECONDS)
        checked(self, state.code, state.err)
        self.run("exit 0")  # the state is the server's opinion

    def run(self, script: str, seconds: float = ANSWER_SECONDS) -> Done:
        """See `Shell.run`."""
        whole = f"({script}\n); code=$?; echo {_ENDED} >&2; exit $code"
        done = run_here([*self._client, "shell", "-T", "-n", whole], self.name, seconds)
        checked(self, done.code, done.err)
        if _ENDED not in done.err:
            raise DeviceError(self._lost(done.err))
        return replace(done, err=done.err.replace(_ENDED, ""))

    def send(self, path: Path, place: PurePosixPath) -> Done:
        """See `Shell.send`."""
        seconds = ANSWER_SECONDS + path.stat().st_size / LINE_BYTES_PER_SECOND
        done = run_here([*self._client, "push", str(path), str(place)], self.name, seconds)
        if "failed to copy" not in done.err:
            checked(self, done.code, done.err)
        return done

    def line(self, script: str) -> Line:
        """See `Shell.line`."""
        return Line([*self._client, "shell", "-T", script], None, PATIENCE_SECONDS, START_SECONDS, self._died)

    def trouble(self, code: int, said: str) -> str | None:
        """See `Shell.trouble`."""
        if code == 0:
            return None
        own = _own_words(said.splitlines())
        for sign, words in _REASONS:
            if sign in own:
                return f"{self.name}: {words.format(serial=self._adb.serial or 'HOST:PORT')}"
        return self._lost(own) if own else None

    def _died(self, code: int, said: str) -> str:
        return died(self, self._adb.python, code, said) if code != 0 else self._lost(said)

    def _lost(self, said: str) -> str:
        because = f" ({' '.join(said.split())[-200:]})" if said.strip() else ""
        return f"{self.name}: the connection was lost{because}; see `adb devices`, then run the same command again"


def _own_words(lines: Sequence[str]) -> str:
    """What adb itself says.

    >>> _own_words(["sh: x: not found", "adb: no devices/emulators found"])
    'adb: no devices/emulators found'
    """
    return " ".join(line.strip() for line in lines if line.startswith(("adb: ", "error: ", "* ")))
