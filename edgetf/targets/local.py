"""This machine: the runner in a process of its own, asked over pipes."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from edgetf.core.errors import ArtifactError, DeviceError, EdgetfError, ParityError
from edgetf.targets.side import runner_command
from edgetf.targets.target import How, Tick

_ERRORS = {error.exit_code: error for error in (EdgetfError, ArtifactError, DeviceError, ParityError)}


class Local:
    """The machine that runs edgetf."""

    how: How = "measured"

    def ask(self, request: dict[str, Any], tick: Tick | None = None) -> dict[str, Any]:
        """See `Target.ask`."""
        return ask_runner(request, tick)


def ask_runner(request: dict[str, Any], tick: Tick | None = None) -> dict[str, Any]:
    """Send one request to a fresh runner and wait for its result.

    Raises:
        EdgetfError: what the runner reported, under the same exit code.
        DeviceError: the runner died, or what it needs is not available.
    """
    models = request.get("models") or [request.get("model") or {}]
    command = runner_command({str(model.get("backend")) for model in models})
    env = {**os.environ, "OMP_NUM_THREADS": str(request["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    return ask_process(command, env, request, tick)


def ask_process(
    command: Sequence[str], env: Mapping[str, str], request: dict[str, Any], tick: Tick | None = None
) -> dict[str, Any]:
    """Send one request to a process that is a runner, started by this command line and with this environment.

    Raises:
        EdgetfError: what the runner reported, under the same exit code.
        DeviceError: the runner died, or what it needs is not available.
    """
    with tempfile.TemporaryFile("w+") as noise:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            env=env,
            start_new_session=True,  # Ctrl-C reaches us alone; we then end it
        )
        try:
            answer = _talk(process, request, tick)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if answer is None:
            noise.seek(0)
            tail = " ".join(noise.read().split())[-300:]
            raise DeviceError(f"the runner ended with code {process.returncode} and no result: {tail or 'no message'}")
    if answer["kind"] == "error":
        raise _ERRORS.get(answer["exit_code"], EdgetfError)(answer["message"])
    return answer


def _talk(process: subprocess.Popen[str], request: dict[str, Any], tick: Tick | None) -> dict[str, Any] | None:
    """The last message of the runner, or None where it ended without one."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.close()
    except BrokenPipeError:
        return None
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        if message["kind"] != "tick":
            process.wait()
            return message
        if tick is not None:
            tick(message["done"], message["total"])
    return None
