"""Answers that are paid for: asked at the same time, kept as they come, and never asked twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Generic, TypeVar

from edgetf.config.endpoint import EndpointConfig
from edgetf.core.errors import ConfigError
from edgetf.core.files import guard_disk
from edgetf.data.chat import CapReachedError, Client

V = TypeVar("V")


class Kept(Generic[V]):
    """Answers by the sha256 of what was asked, in a file of JSON lines that is opened before anything is paid for.

    A line is an object with `text_sha256` and what `written` gives of the answer; `read` gives the answer of such a
    line, or raises where it is torn.
    """

    def __init__(self, path: Path, read: Callable[[dict[str, Any]], V], written: Callable[[V], dict[str, Any]]) -> None:
        self._path, self._read, self._written = path, read, written
        self._lock = threading.Lock()
        with guard_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+", encoding="utf-8", errors="replace")
            self._stream.seek(0)
            lines = self._stream.read().split("\n")
            if lines[-1]:  # torn by a kill; the next line must not go on where it ends
                self._stream.write("\n")
        self.rows = dict(row for row in map(self._row, lines) if row is not None)

    def _row(self, line: str) -> tuple[str, V] | None:
        """A line, or None where it is torn."""
        try:
            record = json.loads(line)
            return str(record["text_sha256"]), self._read(record)
        except (ValueError, TypeError, LookupError):
            return None

    def add(self, digest: str, answer: V | None) -> None:
        """Keep an answer; what has none is asked again another time."""
        if answer is None:
            return
        with self._lock, guard_disk(self._path):
            self._stream.write(json.dumps({"text_sha256": digest, **self._written(answer)}) + "\n")
            self._stream.flush()
            self.rows[digest] = answer

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def ask_all(
    client: Client,
    asked: Mapping[str, str],
    ask: Callable[[str], V | None],
    kept: Kept[V],
    config: EndpointConfig,
    report: Callable[[int, int, str], None],
    outcome: str,
) -> int:
    """Ask for what is not kept yet, by the digests of the texts; gives how many were kept before.

    `outcome` says in an error what has happened to a text that was answered.

    Raises:
        ConfigError: max_usd or max_requests is reached; running again continues.
        DeviceError: the endpoint cannot be reached, refuses, or does not speak the protocol.
    """
    ledger = client.ledger
    missing = {digest: text for digest, text in asked.items() if digest not in kept.rows}
    reused, reached = len(asked) - len(missing), ""
    pool = ThreadPoolExecutor(config.concurrency)
    try:
        futures = [pool.submit(lambda pair: kept.add(pair[0], ask(pair[1])), pair) for pair in missing.items()]
        for done, future in enumerate(as_completed(futures), reused + 1):
            future.result()
            report(done, len(asked), ledger.spent())
    except CapReachedError as cap:
        reached = str(cap)
    finally:  # Ctrl-C comes by here too: what is on its way is paid for, and is waited for
        ledger.stop.set()
        pool.shutdown(cancel_futures=True)
    if reached:
        known = sum(digest in kept.rows for digest in asked)
        raise ConfigError(
            f"{client.place}.{reached}: {known} of {len(asked)} texts are {outcome}, {ledger.requests} requests cost "
            f"{ledger.spent()}, one more could pass {getattr(config, reached):g}; raise {client.place}.{reached}, or "
            "run the same again, which continues"
        )
    return reused
