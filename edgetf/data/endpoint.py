"""A teacher that is too large to host labels texts from behind an OpenAI-compatible endpoint.

A distinct text is one request. Answers are paid for, so each goes to the cache as it comes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from edgetf.config.labeller import LabellerConfig
from edgetf.core.artifact import key_of
from edgetf.core.errors import ConfigError
from edgetf.core.files import guard_disk
from edgetf.core.places import cache_folder
from edgetf.data.chat import CapReachedError, Client


@dataclass(frozen=True)
class Labelled:
    """What the endpoint said about N texts."""

    probabilities: NDArray[np.float32]  # (N, C); NaN in a row without a class
    requests: int  # made now, retries too
    reused: int  # distinct texts that the cache knew
    usd: float  # spent now
    refused: int  # rows without a class


def label_texts(
    config: LabellerConfig, texts: Sequence[str], label_names: Sequence[str], report: Callable[[int, int, str], None]
) -> Labelled:
    """Ask for the class of every text that the cache does not know; `report` gets done, total and a note.

    Raises:
        ConfigError: two classes read the same, or max_usd or max_requests is reached; running again continues.
        DeviceError: the endpoint cannot be reached, refuses, or does not speak the protocol.
    """
    client = Client(config, label_names)
    ledger = client.ledger
    digests = {text: sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts}
    with closing(_Cache(config, label_names)) as cache:
        asked = [text for text, digest in digests.items() if digest not in cache.rows]
        reused, reached = len(digests) - len(asked), ""
        pool = ThreadPoolExecutor(config.concurrency)
        try:
            futures = [pool.submit(lambda text: cache.add(digests[text], client.ask(text)), text) for text in asked]
            for done, future in enumerate(as_completed(futures), reused + 1):
                future.result()
                report(done, len(digests), ledger.spent())
        except CapReachedError as cap:
            reached = str(cap)
        finally:  # Ctrl-C comes by here too: what is on its way is paid for, and is waited for
            ledger.stop.set()
            pool.shutdown(cancel_futures=True)
    if reached:
        known = sum(digest in cache.rows for digest in digests.values())
        raise ConfigError(
            f"labeller.{reached}: {known} of {len(digests)} texts are labelled, {ledger.requests} requests cost "
            f"{ledger.spent()}, one more could pass {getattr(config, reached):g}; raise labeller.{reached}, or run the "
            "same again, which continues"
        )
    table = np.full((len(texts), len(label_names)), np.nan, np.float32)
    for place, text in enumerate(texts):
        table[place] = cache.rows.get(digests[text], np.nan)
    return Labelled(table, ledger.requests, reused, ledger.usd, refused=int(np.isnan(table[:, 0]).sum()))


class _Cache:
    """Labels by the sha256 of their text, in a file of JSON lines that is opened before anything is paid for."""

    def __init__(self, config: LabellerConfig, label_names: Sequence[str]) -> None:
        key = key_of([config.endpoint, config.model, config.instructions, list(label_names), config.top_logprobs])
        self._path = cache_folder() / "labels" / f"{key[:24]}.jsonl"
        self._lock = threading.Lock()
        with guard_disk(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("a+", encoding="utf-8", errors="replace")
            self._stream.seek(0)
            lines = self._stream.read().split("\n")
            if lines[-1]:  # torn by a kill; the next line must not go on where it ends
                self._stream.write("\n")
        rows = [_row(line, len(label_names)) for line in lines]
        self.rows = dict(row for row in rows if row is not None)  # (C,) each

    def add(self, digest: str, row: NDArray[np.float32] | None) -> None:
        """Keep a label; a text without a class is asked again another time."""
        if row is None:
            return
        with self._lock, guard_disk(self._path):
            self._stream.write(json.dumps({"text_sha256": digest, "probabilities": row.tolist()}) + "\n")
            self._stream.flush()
            self.rows[digest] = row

    def close(self) -> None:
        self._stream.close()


def _row(line: str, classes: int) -> tuple[str, NDArray[np.float32]] | None:
    """A line of the cache, or None where it is torn."""
    try:
        record = json.loads(line)
        row = np.asarray(record["probabilities"], np.float32)
        return (str(record["text_sha256"]), row) if row.shape == (classes,) and np.isfinite(row).all() else None
    except (ValueError, TypeError, LookupError):
        return None
