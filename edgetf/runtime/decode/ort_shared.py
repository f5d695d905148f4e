"""A cache that ONNX Runtime's GroupQueryAttention appends to in place: past and present are one buffer.

The operator writes the new rows where they belong when its past and its present are the same memory, long enough for
every token to come; else it copies the whole cache for each token. Rows of earlier tokens never change, so caches of
different lengths may share a buffer, as long as none is continued whose next rows another one still needs.

Source: `past_present_share_buffer` in contrib_ops/cpu/bert/gqa_attention_base.h of microsoft/onnxruntime.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetf.core.decoder import DecoderFacts
from edgetf.runtime.decode.cache import Floats32, check_kept, kept_keys
from edgetf.runtime.decode.session import Ids


class Buffers:
    """Keys and values (1, KV, S, D) by the names of the graph's inputs, bound to a session as past and as present.

    The memory of rows that were never written is the system's to give when they are.
    """

    def __init__(self, session: Any, names: Sequence[str], shape: tuple[int, ...]) -> None:
        from onnxruntime import OrtValue

        self._session, self._shape = session, shape
        self.rows: dict[str, Floats32] = {name: np.zeros(shape, dtype=np.float32) for name in names}
        self._binding = session.io_binding()
        self._caches: weakref.WeakSet[SharedCache] = weakref.WeakSet()
        for name, array in self.rows.items():
            value = OrtValue.ortvalue_from_numpy(array)  # of the array's own memory
            self._binding.bind_ortvalue_input(name, value)
            self._binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)

    def cache(self, facts: DecoderFacts, length: int) -> SharedCache:
        """The first `length` rows."""
        made = SharedCache(facts, self, length)
        self._caches.add(made)
        return made

    def after(self, length: int) -> Buffers:
        """Buffers with these rows in which the next ones are free: itself, unless a living cache needs them."""
        if all(cache.length <= length for cache in self._caches):
            return self
        copy = self.empty()
        for name, array in self.rows.items():
            copy.rows[name][:, :, :length] = array[:, :, :length]
        return copy

    def empty(self) -> Buffers:
        """New ones of the same shape."""
        return Buffers(self._session, tuple(self.rows), self._shape)

    def run(self, feed: dict[str, Any]) -> Floats32:
        """Logits (T, V) of new tokens, whose rows are then there too."""
        for name, value in feed.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_output("logits")
        self._session.run_with_iobinding(self._binding)
        logits: Floats32 = self._binding.get_outputs()[-1].numpy()[0]
        return logits


@dataclass(frozen=True, eq=False)
class SharedCache:
    """The first `length` rows of buffers."""

    facts: DecoderFacts
    buffers: Buffers
    length: int

    def keep(self, kept: Ids) -> SharedCache:
        """See `Cache.keep`."""
        check_kept(self.facts, self.length, kept)
        moved = self.buffers.empty()
        for name, rows in self.buffers.rows.items():
            _, layer, what = name.split(".")
            chosen = kept_keys(self.facts, int(layer), rows, kept) if what == "key" else rows[:, :, kept]
            moved.rows[name][:, :, : len(kept)] = chosen
        return moved.cache(self.facts, len(kept))
