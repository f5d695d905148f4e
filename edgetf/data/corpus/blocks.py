"""Documents as packed sequences: encoded, joined with the token that ends a text, and cut into blocks of one length.

Where the model was trained to see a first token before every text, each block begins with it. Nothing predicts the
first token of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgetf.core.artifact import key_of
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ConfigError, DataError
from edgetf.core.files import file_sha256, whole_file
from edgetf.core.places import cache_folder
from edgetf.runtime.encoder import TOKENIZER

_BATCH = 256  # documents encoded at once
Blocks = NDArray[np.int32]  # (N, T)


def pack(documents: Sequence[str], folder: Path, facts: DecoderFacts, length: int, limit: int | None = None) -> Blocks:
    """Blocks (N, length) of the documents, with the tokenizer in `folder`; read from the cache where they lie there.

    Where they have more tokens than `limit`, evenly spread blocks of them: the documents stand in an order that was
    drawn. What is left over behind the last whole block is dropped.

    Raises:
        DataError: they do not fill one block.
        ConfigError: `length` is more than the model has positions.
    """
    if length > facts.max_length:
        raise ConfigError(f"data.max_length: got {length}, the model has {facts.max_length} positions; lower it")
    start = [] if facts.bos_id is None else [facts.bos_id]
    end = list(facts.eos_ids[:1])
    key = key_of([file_sha256(folder / TOKENIZER), key_of(list(documents)), start, end, length])
    path = cache_folder() / "packed" / f"{key[:24]}.npy"
    if not path.is_file():
        tokens = _encoded(documents, folder, end)
        body = length - len(start)
        count = len(tokens) // body
        if not count:
            raise DataError(f"data: got {len(tokens)} tokens, a sequence has {length}; give more text")
        packed = tokens[: count * body].reshape(count, body)
        with whole_file(path) as part, part.open("wb") as stream:
            np.save(stream, np.hstack([np.tile(np.array(start, np.int32), (count, 1)), packed]))
    blocks: Blocks = np.load(path, mmap_mode="r")
    wanted = len(blocks) if limit is None else max(1, limit // length)
    if wanted >= len(blocks):
        return blocks
    return blocks[np.arange(wanted) * len(blocks) // wanted]


def _encoded(documents: Sequence[str], folder: Path, end: list[int]) -> NDArray[np.int32]:
    """All tokens, each document with what ends it."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    parts = []
    for first in range(0, len(documents), _BATCH):
        for coded in tokenizer.encode_batch(list(documents[first : first + _BATCH]), add_special_tokens=False):
            parts.append(np.array([*coded.ids, *end], np.int32))
    return np.concatenate(parts) if parts else np.empty(0, np.int32)
