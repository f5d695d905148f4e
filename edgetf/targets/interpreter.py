"""Which Python a board has: what decides whether a wheel can run there."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from edgetf.core.errors import DeviceError
from edgetf.targets.behind_shell import no_python
from edgetf.targets.shell import ANSWER_SECONDS, Shell

_ASK = (
    "import json,platform,sys; print(json.dumps([platform.machine(), sys.implementation.name, "
    "'%d.%d' % sys.version_info[:2], platform.libc_ver()[0], platform.libc_ver()[1], sys.maxsize > 2**32]))"
)
ARCHITECTURES = ("aarch64", "x86_64")
OLDEST = (3, 10)


@dataclass(frozen=True)
class Interpreter:
    """CPython on Linux: `python` and `glibc` as in "3.11" and "2.36"; an empty glibc is another C library."""

    architecture: str
    python: str
    glibc: str

    @property
    def minor(self) -> int:
        """The second part of glibc's version."""
        return int(self.glibc.split(".")[1]) if "." in self.glibc else 0


def interpreter_of(shell: Shell, python: str) -> Interpreter:
    """What that Python of the board says of itself.

    Raises:
        DeviceError: it is not there, or not one that edgetf and a runtime run in.
    """
    done = shell.run(f"{shlex.quote(python)} -c {shlex.quote(_ASK)}", ANSWER_SECONDS)
    try:
        machine, implementation, version, libc, libc_version, wide = json.loads(done.out.splitlines()[-1])
    except (ValueError, IndexError):
        raise DeviceError(no_python(shell, python)) from None
    if implementation != "cpython" or tuple(map(int, version.split("."))) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise DeviceError(f"{shell.name}: {python} is {implementation} {version}, allowed: CPython {wanted} or newer")
    architecture = machine if wide else f"{machine}, 32 bits"
    if architecture not in ARCHITECTURES:
        allowed = " or ".join(ARCHITECTURES)
        raise DeviceError(f"{shell.name}: {python} is for {architecture}, allowed: {allowed}, of 64 bits")
    return Interpreter(architecture, version, libc_version if libc == "glibc" else "")
