"""A board with an SSH server, reached by the system's `ssh`, which honours the user's keys, jumps and configuration.

One master connection serves a target's commands (ControlMaster). It runs `cat` there, whose stdin is a pipe of ours:
when edgetf ends, however it does, the pipe ends, then `cat`, then the master. Nothing is ever asked for on a terminal,
host keys are checked strictly, and a line without a sign of life is given up after some 7 s. Files are written by
`cat` too, since small boards have no sftp server.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
import tempfile
import time
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from edgetf.core.device import DeviceProfile
from edgetf.core.errors import DeviceError
from edgetf.core.reach import Ssh
from edgetf.targets.behind_shell import PATIENCE_SECONDS, START_SECONDS, BehindShell, checked, died
from edgetf.targets.shell import ANSWER_SECONDS, Done, run_here
from edgetf.targets.ssh_words import BROKEN, reason
from edgetf.targets.talk import Line

OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "5",
    "ServerAliveInterval": "2",
    "ServerAliveCountMax": "3",
}
CONNECT_SECONDS = 12.0  # to a shell that answers
LINE_BYTES_PER_SECOND = 200_000  # a slower line is taken for a dead one
_READY = b"edgetf-is-there"
_SOCKET_PATH = 70  # longest folder for the control socket: the kernel takes 108 bytes, ssh adds some of its own


class SshTarget(BehindShell):
    """A board reached by ssh."""

    def __init__(self, device: DeviceProfile, ssh: Ssh) -> None:
        shell = SshShell(device.name, ssh)
        super().__init__(shell, device, ssh, "emulated" if ssh.emulated else "measured")


class SshShell:
    """The shell of a board; connects when it is made.

    Raises:
        DeviceError: the board cannot be reached, with the cause and the next step.
    """

    def __init__(self, name: str, ssh: Ssh) -> None:
        self.name, self._ssh = name, ssh
        self.hand = shlex.join(["ssh", *_own_options(ssh), ssh.host])
        top = tempfile.gettempdir() if len(tempfile.gettempdir()) < _SOCKET_PATH else "/tmp"
        folder = Path(tempfile.mkdtemp(prefix="edgetf-", dir=top))  # for the user alone
        self._socket = folder / "s"
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115, closed with the connection
        command = [*self._command("-M"), f"echo {_READY.decode()}; exec cat"]
        try:
            master = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._noise, start_new_session=True
            )
        except OSError as error:
            shutil.rmtree(folder)
            raise DeviceError(
                f"{name}: ssh cannot be started here ({error.strerror}); install openssh-client"
            ) from None
        self._close = weakref.finalize(self, _close, master, folder, self._noise)
        try:
            _await_ready(self, master)
        except BaseException:
            self._close()
            raise

    def run(self, script: str, seconds: float = ANSWER_SECONDS) -> Done:
        """See `Shell.run`."""
        done = run_here(self._words(script), self.name, seconds)
        checked(self, done.code, done.err)
        return done

    def send(self, path: Path, place: PurePosixPath) -> Done:
        """See `Shell.send`."""
        seconds = ANSWER_SECONDS + path.stat().st_size / LINE_BYTES_PER_SECOND
        with path.open("rb") as stream:
            done = run_here(self._words(f"cat > {shlex.quote(str(place))}"), self.name, seconds, stream)
        checked(self, done.code, done.err)
        return done

    def line(self, script: str) -> Line:
        """See `Shell.line`."""
        words = partial(died, self, self._ssh.python)
        return Line(self._words(script), None, PATIENCE_SECONDS, START_SECONDS, words)

    def trouble(self, code: int, said: str) -> str | None:
        """See `Shell.trouble`; 255 is ssh's own exit code."""
        if code != BROKEN:
            return None
        return f"{self.name}: {reason(f'{said} {self.last_words()}', self._ssh.host, self.hand)}"

    def last_words(self) -> str:
        """What the master connection said last."""
        self._noise.seek(0)
        return " ".join(self._noise.read().decode(errors="replace").split())

    def _words(self, script: str) -> list[str]:
        return [*self._command("-o", "ControlMaster=no"), f"exec sh -c {shlex.quote(script)}"]

    def _command(self, *more: str) -> list[str]:
        fixed = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
        own = ["-o", "ControlPersist=no", "-S", str(self._socket), *_own_options(self._ssh)]
        return ["ssh", "-T", *fixed, *own, *more, self._ssh.host]


def _own_options(ssh: Ssh) -> list[str]:
    """What the profile says of the way, as ssh's options."""
    words = ["-F", str(Path(ssh.config).expanduser())] if ssh.config else []
    words += ["-p", str(ssh.port)] if ssh.port else []
    words += ["-i", str(Path(ssh.identity).expanduser()), "-o", "IdentitiesOnly=yes"] if ssh.identity else []
    return words


def _await_ready(shell: SshShell, master: subprocess.Popen[bytes]) -> None:
    """Wait until the board's shell speaks; what a login script prints before is passed over.

    Raises:
        DeviceError: it does not.
    """
    if master.stdout is None:
        return
    until, heard = time.monotonic() + CONNECT_SECONDS, b""
    while _READY not in heard:
        left = until - time.monotonic()
        if left <= 0 or not select.select([master.stdout], [], [], left)[0]:
            raise DeviceError(f"{shell.name}: no answer within {CONNECT_SECONDS:g} s; see that it is up: {shell.hand}")
        block = os.read(master.stdout.fileno(), 1 << 12)
        if not block:
            code = master.wait()
            said = shell.last_words()
            raise DeviceError(
                shell.trouble(code, said)
                or f"{shell.name}: has no shell that runs commands (code {code}: {said[-200:]})"
            )
        heard = (heard + block)[-(1 << 13) :]


def _close(master: subprocess.Popen[bytes], folder: Path, noise: IO[bytes]) -> None:
    """End the master by the end of its stdin, then by force."""
    for stream in (master.stdin, master.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    try:
        master.wait(2)
    except subprocess.TimeoutExpired:
        master.kill()
        master.wait()
    noise.close()
    shutil.rmtree(folder, ignore_errors=True)
