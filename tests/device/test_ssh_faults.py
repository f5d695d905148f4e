"""Whatever goes wrong between here and a board is one clear error within 15 s, and leaves nothing running there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import environment
from sshd import SLOW_RUNTIME, LoopbackBoard, free_port, loopback_board, package
from tiny_graphs import write_onnx

SECONDS = 15.0
DIES = "import os, sys\nprint('the last words of a runtime', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 9)\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def board(folder: Path) -> Iterator[LoopbackBoard]:
    with loopback_board(folder / "board") as found:
        yield found


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_onnx(folder / "model.onnx")


@contextmanager
def bench(model: Path, profile: Path) -> Iterator[subprocess.Popen[str]]:
    """`edgetf bench` on a board, while it runs."""
    command = [sys.executable, "-m", "edgetf", "bench", str(model), "--device", str(profile)]
    env = environment(profile.parent / "cache")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def fails(model: Path, profile: Path, words: str, code: int = 4) -> None:
    """The command ends in time, with that exit code and words and without a traceback."""
    before = time.monotonic()
    with bench(model, profile) as process:
        said = process.communicate(timeout=60)[1]
    assert (process.returncode, "Traceback" in said) == (code, False), said
    assert re.search(words, said), said
    assert time.monotonic() - before < SECONDS, said


@contextmanager
def running(board: LoopbackBoard, model: Path, profile: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A command whose runner is at work on the board, and that runner."""
    with bench(model, profile) as process:
        until = time.monotonic() + 60
        while not board.runners():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(2.5)  # it holds its lease and has said so
        yield process, board.runners()[0]


@pytest.fixture(scope="module")
def slow_board(folder: Path) -> Iterator[LoopbackBoard]:
    """A board whose runtime takes its time."""
    with loopback_board(folder / "slow", packages=package(folder / "slow-packages", SLOW_RUNTIME)) as found:
        yield found


def test_a_cut_connection_leaves_nothing_running(slow_board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    with running(slow_board, model, slow_board.profile(tmp_path)) as (process, _):
        before = time.monotonic()
        for session in slow_board.sessions():
            os.kill(session, signal.SIGKILL)
        said = process.communicate(timeout=60)[1]
        assert time.monotonic() - before < SECONDS
    assert process.returncode == 4
    assert "loopback: " in said and "the connection was lost" in said and "Traceback" not in said
    assert slow_board.empties()


def test_a_line_that_falls_silent_is_given_up(slow_board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    with running(slow_board, model, slow_board.profile(tmp_path)) as (process, _):
        stopped = slow_board.sessions()
        stopped += [pid for session in stopped for pid in children_that_serve(session)]
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            before = time.monotonic()
            said = process.communicate(timeout=60)[1]
            assert time.monotonic() - before < SECONDS
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    assert process.returncode == 4
    assert re.search("the connection was lost|no sign of life", said) and "Traceback" not in said
    assert slow_board.empties()


def children_that_serve(session: int) -> list[int]:
    """The unprivileged process of a session, not what it started."""
    from sshd import children, of

    return [pid for pid in children(session) if b"sshd" in of(pid, "cmdline")]


def test_a_runner_that_falls_silent_is_given_up(slow_board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    with running(slow_board, model, slow_board.profile(tmp_path)) as (process, runner):
        os.kill(runner, signal.SIGSTOP)
        before = time.monotonic()
        said = process.communicate(timeout=60)[1]
        assert time.monotonic() - before < SECONDS
        os.kill(runner, signal.SIGCONT)
    assert process.returncode == 4
    assert "loopback: no sign of life for 10 s" in said
    assert slow_board.empties()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_ends_early_ends_its_runner(
    slow_board: LoopbackBoard, model: Path, tmp_path: Path, how: signal.Signals
) -> None:
    with running(slow_board, model, slow_board.profile(tmp_path)) as (process, _):
        process.send_signal(how)
        process.communicate(timeout=SECONDS)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    assert slow_board.empties()


def test_a_runner_that_crashes_says_its_last_words(folder: Path, model: Path, tmp_path: Path) -> None:
    with loopback_board(folder / "dies", packages=package(folder / "dies-packages", DIES)) as board:
        fails(model, board.profile(tmp_path), "loopback: the runner was killed there.*the last words of a runtime")
        assert board.empties()


def test_an_unknown_host_names_the_command_that_adds_it(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    known = board.known_hosts.read_text()
    board.known_hosts.write_text("")
    try:
        fails(model, board.profile(tmp_path), f"host key is not known; compare .*: ssh .*-p {board.port}")
    finally:
        board.known_hosts.write_text(known)


def test_a_changed_host_key_is_an_alarm(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    known = board.known_hosts.read_text()
    board.known_hosts.write_text(f"[127.0.0.1]:{board.port} {(board.folder / 'user.pub').read_text()}")
    try:
        fails(
            model, board.profile(tmp_path), rf"its host key CHANGED: .* ssh-keygen -R '\[127\.0\.0\.1\]:{board.port}'"
        )
    finally:
        board.known_hosts.write_text(known)


def test_a_key_that_is_not_accepted_is_named_so(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    profile = board.profile(tmp_path, identity=str(board.folder / "host"))
    fails(model, profile, "permission denied, no key is accepted; run: ssh-copy-id")


def test_a_port_that_nobody_serves(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    fails(model, board.profile(tmp_path, port=free_port()), "connection refused; see that its SSH server runs")


def test_a_name_that_nobody_has(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    fails(model, board.profile(tmp_path, host="board.invalid"), "no such name on this network")


def test_a_peer_that_says_nothing(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        peer.listen()
        profile = board.profile(tmp_path, port=peer.getsockname()[1])
        fails(model, profile, "something listens there but does not speak|no answer within")


def test_a_python_that_is_not_there(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    fails(model, board.profile(tmp_path, python="python7"), "loopback: python7 cannot be run there; install Python")


def test_edgetf_that_is_not_installed_there(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    bare = board.folder / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    wanted = r"edgetf is not installed for .*bare there; run: ssh .* -m pip install 'edgetf\[ort\]', or set runner: zip"
    fails(model, board.profile(tmp_path, python=str(bare)), wanted)


def test_a_runtime_that_is_not_there(folder: Path, model: Path, tmp_path: Path) -> None:
    code = "raise ModuleNotFoundError('no onnxruntime', name='onnxruntime')\n"
    with loopback_board(folder / "none", packages=package(folder / "no-packages", code)) as board:
        fails(model, board.profile(tmp_path), r"loopback: onnxruntime: not installed; run: pip install 'edgetf\[ort\]'")


def test_bytes_that_change_on_the_way_never_get_a_name(folder: Path, model: Path, tmp_path: Path) -> None:
    """What receives the file there writes another byte."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / "cat").write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import sys; b = sys.stdin.buffer.read(); "
                               "sys.stdout.buffer.write(b[:-1] + bytes([b[-1] ^ 1]) if b else b)'\n")  # fmt: skip
    (tools / "cat").chmod(0o755)
    with loopback_board(folder / "flips", shell=f"PATH={tools}:$PATH") as board:
        fails(model, board.profile(tmp_path), "model.onnx arrived with other bytes than were sent")
        assert list((board.home / ".cache" / "edgetf").iterdir()) == []
        assert board.empties()


def test_a_full_disk_on_the_board_is_named_so(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    small = board.home / "small"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"needs a small file system: mount says {done.stderr.decode().strip()}")
    try:
        large = tmp_path / "large.onnx"
        large.write_bytes(model.read_bytes() + bytes(1 << 20))
        fails(large, board.profile(tmp_path, folder="small"), "small on the device: its disk is full; free some space")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_that_may_not_be_written(board: LoopbackBoard, model: Path, tmp_path: Path) -> None:
    fails(model, board.profile(tmp_path, folder="/proc/edgetf"), "/proc/edgetf on the device: does not take a file")
