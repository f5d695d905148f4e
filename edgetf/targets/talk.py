"""Speaking with a runner: a process here, or a connection to one elsewhere, that answers one request in JSON lines.

A runner shows every other second that it lives. Where nothing comes for longer than the line's patience it is given up,
so that a board which went away is an error within seconds and never a hang. The runner's stdin stays open while we
wait: at its end the runner ends itself, see `edgetf.runtime.lease`.
"""

from __future__ import annotations

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from edgetf.core.errors import ArtifactError, DeviceError, EdgetfError, ParityError
from edgetf.targets.target import Answer, Request, Tick

_ERRORS = {error.exit_code: error for error in (EdgetfError, ArtifactError, DeviceError, ParityError)}
_TAIL = 300  # characters of a dead runner's last words
_LEAVE_SECONDS = 5.0  # for a runner that has answered


def _no_result(code: int, said: str) -> str:
    return f"the runner ended with code {code} and no result: {said or 'no message'}"


@dataclass(frozen=True)
class Line:
    """A command that starts a runner, and what is known of the way to it."""

    command: Sequence[str]
    env: Mapping[str, str] | None = None
    patience_seconds: float = 120.0  # without a sign of life
    died: Callable[[int, str], str] = _no_result  # words for an exit code and the end of stderr


def ask(line: Line, request: Request, tick: Tick | None = None) -> Answer:
    """Send one request to a fresh runner and wait for its result.

    Raises:
        EdgetfError: what the runner reported, under the same exit code.
        DeviceError: the runner died, fell silent, or could not be started.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as noise:
        try:
            process = subprocess.Popen(
                line.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                text=True,
                env=line.env,
                start_new_session=True,  # Ctrl-C reaches us alone; we then end it
            )
        except OSError as error:
            raise DeviceError(f"{line.command[0]}: cannot be started ({error.strerror})") from None
        try:
            answer = _converse(process, line, request, tick)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if answer is None:
            noise.seek(0)
            said = " ".join(noise.read().split())[-_TAIL:]
            raise DeviceError(line.died(process.returncode, said))
    if answer["kind"] == "error":
        raise _ERRORS.get(answer["exit_code"], EdgetfError)(answer["message"])
    return answer


def _converse(process: subprocess.Popen[str], line: Line, request: Request, tick: Tick | None) -> Answer | None:
    """The last message of the runner, or None where it ended without one.

    Raises:
        DeviceError: it fell silent.
    """
    if process.stdin is None or process.stdout is None:
        return None
    messages: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(process.stdout, messages), daemon=True).start()
    # A thread of its own, because a peer that has gone does not take what is written.
    threading.Thread(target=_write, args=(process.stdin, json.dumps(request)), daemon=True).start()
    while True:
        try:
            message = messages.get(timeout=line.patience_seconds)
        except queue.Empty:
            raise DeviceError(f"no sign of life for {line.patience_seconds:g} s, so it was given up") from None
        match message and message["kind"]:
            case None:
                process.wait()  # its stdout is at an end, so it is about to go
                return None
            case "result" | "error":
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LEAVE_SECONDS)  # stdin is still open, or its lease would cut its last steps short
                return message
            case "tick" if tick is not None and message is not None:
                tick(message["done"], message["total"])


def _listen(stream: IO[str], messages: queue.SimpleQueue[Answer | None]) -> None:
    """Pass on what comes, and None at the end; a line that is no message is another program's chatter."""
    with suppress(OSError, ValueError):  # the pipe may be closed under it
        for text in stream:
            message = _message(text)
            if message is not None:
                messages.put(message)
    messages.put(None)


def _message(text: str) -> Answer | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("kind"), str) else None


def _write(stream: IO[str], text: str) -> None:
    with suppress(OSError, ValueError):  # it may have ended; what it said last tells why
        stream.write(text + "\n")
        stream.flush()
