"""A line to a runner: signs of life keep it, silence ends it, and a runner whose other side has gone ends itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.runtime.lease import FORSAKEN
from edgetf.targets.talk import Line, ask

RUNNER = [sys.executable, "-m", "edgetf.runtime.runner"]


def line(code: str, patience: float = 30.0) -> Line:
    """A runner that is this Python code."""
    return Line([sys.executable, "-c", code], patience_seconds=patience)


def test_signs_of_life_keep_a_slow_runner() -> None:
    code = """if True:
        import time
        for _ in range(4):
            print('{"kind": "alive"}', flush=True)
            time.sleep(0.5)
        print('{"kind": "result", "answer": 7}', flush=True)
    """
    assert ask(line(code, patience=1.5), {})["answer"] == 7


def test_a_silent_runner_is_given_up_and_ended() -> None:
    code = 'import os, time; print(\'{"kind": "alive"}\', flush=True); time.sleep(60)'
    before = time.monotonic()
    with pytest.raises(DeviceError, match="no sign of life for 1 s"):
        ask(line(code, patience=1.0), {})
    assert time.monotonic() - before < 10


def test_a_peer_that_takes_nothing_is_given_up_too() -> None:
    """A request larger than a pipe holds must not block the wait."""
    with pytest.raises(DeviceError, match="no sign of life"):
        ask(line("import time; time.sleep(60)", patience=1.0), {"texts": ["word" * 1000] * 1000})


def test_chatter_of_other_programs_is_no_message() -> None:
    code = """print('Welcome to the board\\n[1, 2]\\n"text"\\n{"kind": 3}\\n{"kind": "result", "answer": 1}')"""
    assert ask(line(code), {})["answer"] == 1


def test_an_error_keeps_its_exit_code() -> None:
    code = """print('{"kind": "error", "exit_code": 3, "message": "model.onnx: not found"}')"""
    with pytest.raises(ArtifactError, match=r"model\.onnx: not found"):
        ask(line(code), {})


def test_a_command_that_is_not_there_is_a_device_error() -> None:
    with pytest.raises(DeviceError, match="no-such-program: cannot be started"):
        ask(Line(["no-such-program"]), {})


def test_ticks_are_passed_on() -> None:
    code = """print('{"kind": "tick", "done": 1, "total": 2}\\n{"kind": "result"}')"""
    seen: list[tuple[int, int]] = []
    ask(line(code), {}, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2)]


@pytest.mark.parametrize("how", ["stdin", "stdout"])
def test_a_runner_whose_other_side_has_gone_ends_itself(how: str) -> None:
    """Else a cut connection would leave it running on the board."""
    request = {"do": "wait", "seconds": 60, "threads": 1}
    code = "import sys, time; from edgetf.runtime import lease; voice = lease.Voice(lease.own_stdout()); "
    code += "lease.read_line(); lease.hold(voice); time.sleep(60)"
    runner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert runner.stdin is not None
        assert runner.stdout is not None
        runner.stdin.write(json.dumps(request).encode() + b"\n")
        runner.stdin.flush()
        assert json.loads(runner.stdout.readline())["kind"] == "alive"  # it holds its lease now
        (runner.stdin if how == "stdin" else runner.stdout).close()
        assert runner.wait(10) == FORSAKEN
    finally:
        runner.kill()


def test_a_runner_that_has_answered_leaves_by_itself() -> None:
    """Not by its lease, which would cut short what a runtime does at the end."""
    runner = subprocess.Popen(RUNNER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ})
    try:
        assert runner.stdin is not None
        assert runner.stdout is not None
        runner.stdin.write(b'{"do": "dance"}\n')
        runner.stdin.flush()
        assert json.loads(runner.stdout.readline())["kind"] == "error"
        assert runner.wait(30) == 2
    finally:
        runner.kill()
