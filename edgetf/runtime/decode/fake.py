"""A decoder that needs no runtime: a small Llama in numpy, with weights from a seed. It passes the same tests.

A layer is ``x + O attention(rope(Q n(x)), rope(K n(x)), V n(x))``, n the root-mean-square norm; logits are products
with the embeddings. Its "file" is JSON: ``{"seed": 0}``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError
from edgetf.core.rope import frequencies
from edgetf.runtime.backend import Engine
from edgetf.runtime.decode.cache import ArrayCache, Floats32, turned
from edgetf.runtime.decode.checks import check_finite, check_room
from edgetf.runtime.decode.session import Ids, Logits


class FakeDecoder:
    """Weights are random; where positions are learned they are added to the embeddings."""

    def __init__(self, facts: DecoderFacts, seed: int = 0) -> None:
        self.facts = facts
        self.capacity: int | None = facts.max_length
        self.engine = Engine(asked="numpy", ran="numpy")
        rng = np.random.default_rng(seed)
        width, heads = facts.hidden_size, facts.num_attention_heads * facts.head_dim
        pairs = facts.num_key_value_heads * facts.head_dim
        self._embeddings = _weights(rng, facts.vocab_size, width)
        self._positions = _weights(rng, facts.max_length, width) if facts.positions == "learned" else None
        self._layers = [
            [_weights(rng, width, out) for out in (heads, pairs, pairs)] + [_weights(rng, heads, width)]
            for _ in range(facts.num_hidden_layers)
        ]

    def start(self) -> ArrayCache:
        """See `DecoderSession.start`."""
        return ArrayCache.empty(self.facts)

    def run(self, ids: Ids, cache: ArrayCache) -> tuple[Logits, ArrayCache]:
        """See `DecoderSession.run`."""
        before, after = cache.length, cache.length + len(ids)
        check_room(after, self.capacity)
        x: Floats32 = self._embeddings[ids]  # (T, H)
        if self._positions is not None:
            x = x + self._positions[before:after]
        keys, values = [], []
        for layer, weights in enumerate(self._layers):
            query, key, value = (self._split(_norm(x) @ weight) for weight in weights[:3])
            if self.facts.positions == "rope":
                speeds, place = frequencies(self.facts, layer), np.arange(before, after)
                query, key = turned(query, place, speeds), turned(key, place, speeds)
            keys.append(np.concatenate([cache.keys[layer], key], axis=1))
            values.append(np.concatenate([cache.values[layer], value], axis=1))
            x = x + _attention(query, keys[-1], values[-1]) @ weights[3]
        logits = np.asarray(_norm(x) @ self._embeddings.T, dtype=np.float32)
        check_finite(logits, after)
        return logits, ArrayCache(self.facts, keys, values)

    def _split(self, rows: Floats32) -> Floats32:
        """Rows (T, heads * D) as (heads, T, D)."""
        return np.asarray(rows.reshape(len(rows), -1, self.facts.head_dim).transpose(1, 0, 2))


def load_fake(model: Path, facts: DecoderFacts) -> FakeDecoder:
    """Open a .json file.

    Raises:
        ArtifactError: it is missing or broken.
    """
    try:
        return FakeDecoder(facts, int(json.loads(model.read_text(encoding="utf-8"))["seed"]))
    except FileNotFoundError:
        raise ArtifactError(f"{model}: not found") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{model}: not a fake decoder ({error})") from None


def _weights(rng: np.random.Generator, rows: int, columns: int) -> Floats32:
    return np.asarray(rng.normal(size=(rows, columns)) / np.sqrt(rows), dtype=np.float32)


def _norm(x: Floats32) -> Floats32:
    return np.asarray(x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6))


def _attention(query: Floats32, keys: Floats32, values: Floats32) -> NDArray[np.float32]:
    """Causal attention of the queries (H, T, D) to keys and values (KV, P + T, D), as rows (T, H * D)."""
    heads, new, width = query.shape
    shared = heads // len(keys)
    scores = query @ keys.repeat(shared, axis=0).transpose(0, 2, 1) / np.sqrt(width)  # (H, T, P + T)
    scores += np.triu(np.full(scores.shape[1:], -np.inf, dtype=np.float32), k=scores.shape[2] - new + 1)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.asarray((weights @ values.repeat(shared, axis=0)).transpose(1, 0, 2).reshape(new, -1), dtype=np.float32)
