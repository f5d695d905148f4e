"""A real OpenSSH server on a loopback port, with throw-away keys, as the current user: a board that is always there.

Nothing of the user's own ssh is read: the client's configuration is a file beside the keys.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
import yaml

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class LoopbackBoard:
    """The server, and the folder that plays the board's home."""

    folder: Path
    port: int
    server: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        """Where a session begins, and where files go."""
        return self.folder / "home"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def profile(self, where: Path, name: str = "loopback", runtimes: tuple[str, ...] = ("ort",), **ssh: Any) -> Path:
        """Write a device profile for it."""
        own = {"host": f"{getuser()}@127.0.0.1", "port": self.port, "config": str(self.folder / "config")}
        own |= {"identity": str(self.folder / "user"), "python": str(self.folder / "python"), **ssh}
        tree = {"name": name, "description": "a board", "target": "ssh", "architecture": "any", "ssh": own}
        path = where / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**tree, "runtimes": list(runtimes)}))
        return path

    def sessions(self) -> list[int]:
        """Processes of the server's open connections."""
        return children(self.server.pid)

    def runners(self) -> list[int]:
        """Runners that live on the board: they have its home."""
        return runners_of(self.home)

    def empties(self, seconds: float = 10.0) -> bool:
        """Whether no runner is left within so many seconds."""
        until = time.monotonic() + seconds
        while self.runners() and time.monotonic() < until:
            time.sleep(0.1)
        return not self.runners()


_RUNNER = re.compile(rb"python[^\0]*\0(-m\0edgetf\.runtime\.runner|[^\0]*\.pyz)")


SLOW_RUNTIME = "import time\nprint('loading', flush=True)\ntime.sleep(120)\n"


def package(folder: Path, code: str) -> Path:
    """A folder with an onnxruntime that does this when it is imported."""
    (folder / "onnxruntime").mkdir(parents=True)
    (folder / "onnxruntime" / "__init__.py").write_text(code)
    return folder


def runners_of(home: Path) -> list[int]:
    """Runners that live with that home."""
    mark = f"HOME={home}\0".encode()
    return [pid for pid in processes() if mark in of(pid, "environ") and _RUNNER.search(of(pid, "cmdline"))]


def processes() -> list[int]:
    """Every process."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def of(pid: int, name: str) -> bytes:
    """A file of a process; nothing where it has gone."""
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except OSError:
        return b""


def children(parent: int) -> list[int]:
    """The children of a process."""
    return [pid for pid in processes() if of(pid, "stat").rpartition(b")")[2].split()[1:2] == [str(parent).encode()]]


@contextmanager
def loopback_board(
    folder: Path, *, shell: str = "", enter: str = "", packages: Path | None = None
) -> Iterator[LoopbackBoard]:
    """Start the server and end it. `shell` stands in the forced command before the client's own, which `enter` runs.

    Its Python is this one with this checkout's edgetf; what lies in `packages` comes before all other packages.
    """
    if SSHD is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    (folder / "home").mkdir(parents=True)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    port = free_port()
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "config").write_text(f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile /dev/null\n")
    search = f"{packages}:{REPOSITORY}" if packages else str(REPOSITORY)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{search}" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    session = folder / "session"
    session.write_text(
        f"#!/bin/sh\ncd {folder}/home || exit 1\nHOME={folder}/home\nexport HOME\n{shell}\n"
        f'exec {enter} /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    session.chmod(0o755)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nForceCommand {session}\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where its unprivileged child is shut in
    with (folder / "log").open("wb") as log:
        command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _await_port(port, server, folder / "log")
        yield LoopbackBoard(folder, port, server)
    finally:
        for pid in children(server.pid):
            for inner in [*children(pid), pid]:
                _end(inner)
        server.kill()
        server.wait()


def _await_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            pytest.skip(f"sshd does not start here: {log.read_text()[-300:]}")
        time.sleep(0.05)
    pytest.skip("sshd does not listen within 5 s")


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, 9)
