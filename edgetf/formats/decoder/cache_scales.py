"""Scales of an int8 key-value cache, from the ranges that keys and values have on texts.

A code q of a channel stands for q * s, s the largest number seen in it over 127, and a little more, as other texts may
go beyond. RoPE turns channels i and i + D/2 of a key into each other: they share a scale, so that a cached key can be
turned to another position as it lies, without its scales.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import needs
from edgetf.formats.decoder.feeds import first_feed
from edgetf.formats.decoder.names import present_names
from edgetf.runtime.decode.session import Ids

MARGIN = 1.1  # room beyond what was seen
LEAST = 1e-6  # of a scale, where a channel is always 0


def cache_scales(path: Path, facts: DecoderFacts, blocks: Ids) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """For every layer the scales (KV, D) of keys and of values, from a fused fp32 file that reads blocks (N, T)."""
    with needs("ort"):
        import onnxruntime as ort
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    layers = facts.num_hidden_layers
    largest = np.zeros((2 * layers, facts.num_key_value_heads, facts.head_dim), np.float32)
    for block in blocks:
        found = session.run(list(present_names(layers)), first_feed(session, facts, block))  # each (1, KV, T, D)
        largest = np.maximum(largest, [np.abs(each[0]).max(axis=1) for each in found])
    scales = np.maximum(largest * MARGIN / 127, LEAST).astype(np.float32)
    return [(by_pair(keys), values) for keys, values in zip(scales[::2], scales[1::2], strict=True)]


def by_pair(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """The larger of the scales (…, D) of each pair that RoPE turns.

    >>> by_pair(np.array([[1.0, 2.0, 3.0, 1.0]], np.float32)).tolist()
    [[3.0, 2.0, 3.0, 2.0]]
    """
    first, second = np.split(scales, 2, axis=-1)
    return np.concatenate([np.maximum(first, second)] * 2, axis=-1)
