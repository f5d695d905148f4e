"""The runner's end of the line: the request, messages back, and the lease that ends a runner nobody waits for.

The other side holds stdin open for as long as it waits. At its end of file the runner ends itself, so that a cut
connection or a killed tool leaves nothing running on a board. A sign of life goes out every other second, so that the
other side need not wait for a device that has gone.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any, TextIO

ALIVE_SECONDS = 2.0
FORSAKEN = 75  # EX_TEMPFAIL of sysexits.h: the exit code of a runner whose lease ended
_BLOCK = 1 << 16


def own_stdout() -> TextIO:
    """Keep the real stdout for messages and send what a C library prints there to stderr."""
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return messages


class Voice:
    """Writes messages, one JSON object a line; several threads may speak."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def say(self, kind: str, **content: Any) -> None:
        """Write one message."""
        with self._lock:
            self._stream.write(json.dumps({"kind": kind, **content}) + "\n")
            self._stream.flush()


def read_line(descriptor: int = 0) -> str:
    """The request; read past Python's buffers, since a thread that waits in one would bring down the process's end."""
    taken = bytearray()
    while not taken.endswith(b"\n"):
        block = os.read(descriptor, _BLOCK)
        if not block:
            break
        taken += block
    return taken.decode()


def hold(voice: Voice, descriptor: int = 0) -> None:
    """Watch the other side, and show it that this one lives, from now on."""
    threading.Thread(target=_end_with, args=(descriptor,), daemon=True).start()
    threading.Thread(target=_show_life, args=(voice,), daemon=True).start()


def _end_with(descriptor: int) -> None:
    try:
        while os.read(descriptor, _BLOCK):
            pass
    finally:
        os._exit(FORSAKEN)


def _show_life(voice: Voice) -> None:
    pause = threading.Event()
    while not pause.wait(ALIVE_SECONDS):
        try:
            voice.say("alive")
        except (OSError, ValueError):
            os._exit(FORSAKEN)
