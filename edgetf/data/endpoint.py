"""A teacher that is too large to host labels texts from behind an OpenAI-compatible endpoint.

A distinct text is one request. Answers are paid for, so each goes to the cache as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.config.labeller import LabellerConfig
from edgetf.core.artifact import key_of
from edgetf.core.errors import ConfigError
from edgetf.core.places import cache_folder
from edgetf.data.answers import fold, probabilities
from edgetf.data.chat import Client
from edgetf.data.paid import Kept, ask_all


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
    names = [fold(name) for name in label_names]
    if len(set(names)) < max(2, len(label_names)) or not all(names):
        raise ConfigError(f"labeller: got the classes {list(label_names)}; give two or more that read differently")
    client = Client(config, "labeller")
    key = key_of([config.endpoint, config.model, config.instructions, list(label_names), config.top_logprobs])
    digests = {text: sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts}

    def ask(text: str) -> NDArray[np.float32] | None:
        return probabilities(client.ask(config.request(text, label_names)), names)

    def read(record: dict[str, Any]) -> NDArray[np.float32]:
        row = np.asarray(record["probabilities"], np.float32)
        if row.shape != (len(label_names),) or not np.isfinite(row).all():
            raise ValueError("torn")
        return row

    path = cache_folder() / "labels" / f"{key[:24]}.jsonl"
    with closing(Kept(path, read, lambda row: {"probabilities": row.tolist()})) as cache:
        asked = {digest: text for text, digest in digests.items()}
        reused = ask_all(client, asked, ask, cache, config, report, "labelled")
    table = np.full((len(texts), len(label_names)), np.nan, np.float32)
    for place, text in enumerate(texts):
        table[place] = cache.rows.get(digests[text], np.nan)
    ledger = client.ledger
    return Labelled(table, ledger.requests, reused, ledger.usd, refused=int(np.isnan(table[:, 0]).sum()))
