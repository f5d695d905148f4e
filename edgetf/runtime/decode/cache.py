"""Keys and values of the tokens so far, and what becomes of them when some tokens are dropped.

RoPE turns each pair (x_i, x_{i + D/2}) of a key at position p by the angle ``p f_i``, f_i of `edgetf.core.rope`. Turns
add up, so a cached key that moves from position `old` to `new` is turned by ``(new - old) f_i`` more, and then equals
the key of the same hidden state computed there. Values know no position.

Sources: Su et al. 2021 (RoPE), in the half-split layout of Llama in transformers; Xiao et al. 2024 (StreamingLLM),
where positions are those in the cache, not those in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ParityError
from edgetf.core.rope import frequencies
from edgetf.runtime.decode.session import Ids

Floats32 = NDArray[np.float32]
_MOST = 127  # of an int8 code


def turned(keys: NDArray[Any], by: Ids, speeds: NDArray[np.float64]) -> Floats32:
    """Keys (…, T, D), that of token t turned by `by[t]` positions, at the frequencies `speeds` (D / 2,).

    Angles and turns are computed in float64, since a product of a large position and a frequency has few digits left
    in float32.

    >>> turned(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]), np.array([1.0])).round(4).tolist()
    [[0.5403000116348267, 0.8414999842643738]]
    """
    half = keys.shape[-1] // 2
    angles = by[:, None] * speeds  # (T, D / 2)
    cosines, sines = np.cos(angles), np.sin(angles)
    left, right = keys[..., :half].astype(np.float64), keys[..., half:].astype(np.float64)
    both = np.concatenate([left * cosines - right * sines, right * cosines + left * sines], axis=-1)
    return both.astype(np.float32)


def kept_keys(facts: DecoderFacts, layer: int, keys: NDArray[Any], kept: Ids) -> NDArray[Any]:
    """Of a layer's keys (…, T, D) those of the tokens `kept`, turned to the positions 0 … len(kept) - 1.

    Keys in int8 are turned as they are, since the two channels of a pair share their scale, and rounded once more.
    """
    chosen = keys[..., kept, :]
    moved = turned(chosen, np.arange(len(kept)) - kept, frequencies(facts, layer))
    if keys.dtype == np.int8:
        return np.clip(np.rint(moved), -_MOST, _MOST).astype(np.int8)
    return moved.astype(keys.dtype)


def kept_rows(facts: DecoderFacts, name: str, rows: NDArray[Any], kept: Ids) -> NDArray[Any]:
    """The same for the keys or values (…, T, D) that a graph calls `past_key_values.N.key` or `.value`."""
    _, layer, what = name.split(".")
    return kept_keys(facts, int(layer), rows, kept) if what == "key" else np.asarray(rows[..., kept, :])


def check_kept(facts: DecoderFacts, length: int, kept: Ids) -> None:
    """Pass where tokens of a cache of this length can be kept.

    Raises:
        ParityError: the positions of the model are learned.
        ValueError: `kept` does not ascend, or names a token that is not there.
    """
    if facts.positions == "learned":
        raise ParityError(
            "the positions of this model are learned, so cached keys cannot be moved; read the text again"
        )
    if len(kept) and (kept[0] < 0 or kept[-1] >= length or (np.diff(kept) <= 0).any()):
        raise ValueError(f"kept: must ascend within 0 … {length - 1}")


@dataclass(frozen=True)
class ArrayCache:
    """A cache that lies in numpy arrays (KV, T, D), one for each layer."""

    facts: DecoderFacts
    keys: Sequence[Floats32]
    values: Sequence[Floats32]

    @classmethod
    def empty(cls, facts: DecoderFacts) -> ArrayCache:
        """Of no tokens."""
        none = np.zeros((facts.num_key_value_heads, 0, facts.head_dim), dtype=np.float32)
        layers = [none] * facts.num_hidden_layers
        return cls(facts, layers, layers)

    @property
    def length(self) -> int:
        """Tokens that it holds."""
        return int(self.keys[0].shape[1])

    def keep(self, kept: Ids) -> ArrayCache:
        """See `Cache.keep`."""
        check_kept(self.facts, self.length, kept)
        keys = [kept_keys(self.facts, layer, each, kept) for layer, each in enumerate(self.keys)]
        return ArrayCache(self.facts, keys, [each[:, kept] for each in self.values])
