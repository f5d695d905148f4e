"""A decoder in ONNX Runtime. The cache stays in the runtime's own memory: what one step gives is fed to the next.

The graph tells by its inputs whether it wants a mask and positions. Where attention is one operator that can append to
its cache in place, it does, see `edgetf.runtime.decode.ort_shared`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, ParityError
from edgetf.runtime.backend import Engine
from edgetf.runtime.decode.cache import check_kept, kept_keys
from edgetf.runtime.decode.checks import check_finite, check_room
from edgetf.runtime.decode.ort_shared import Buffers, SharedCache
from edgetf.runtime.decode.session import Ids, Logits
from edgetf.runtime.ort import CPU, nodes_of, open_graph, operators_of, short_words

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)$")
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}
_KNOWN = {"input_ids", "attention_mask", "position_ids"}


@dataclass(frozen=True)
class OrtCache:
    """Keys and values as the runtime's own values (1, KV, T, D), in the order of the graph's inputs."""

    facts: DecoderFacts
    names: Sequence[str]
    pasts: Sequence[Any]
    length: int

    def keep(self, kept: Ids) -> OrtCache:
        """See `Cache.keep`."""
        check_kept(self.facts, self.length, kept)
        pasts = [self._kept(name, past.numpy(), kept) for name, past in zip(self.names, self.pasts, strict=True)]
        return OrtCache(self.facts, self.names, pasts, len(kept))

    def _kept(self, name: str, past: Any, kept: Ids) -> Any:
        layer, what = _layer(name)
        if what == "value":
            return _value(past[:, :, kept])
        keys = kept_keys(self.facts, layer, past, kept)
        if past.dtype == np.int8:  # a pair that is turned has one scale, so that its codes can be turned
            keys = np.clip(np.rint(keys), -127, 127)
        return _value(keys.astype(past.dtype))


class OrtDecoder:
    """One .onnx file with the names of `edgetf.runtime.decode.session`."""

    def __init__(self, session: Any, facts: DecoderFacts, asked: str = CPU) -> None:
        """Raises ArtifactError where the graph is not that of a decoder with a cache."""
        self.facts = facts
        self.engine = Engine.of(asked, nodes_of(session))
        self.capacity: int | None = facts.max_length
        self._session = session
        self._inputs = {item.name for item in session.get_inputs()}
        self._pasts = [item for item in session.get_inputs() if _PAST.match(item.name)]
        self._past_names = [item.name for item in self._pasts]
        self._outputs = ["logits", *(name.replace("past_key_values", "present") for name in self._past_names)]
        self._check({item.name for item in session.get_outputs()})
        fused = operators_of(session).get("GroupQueryAttention", 0) == facts.num_hidden_layers
        self._in_place = fused and asked == CPU and {item.type for item in self._pasts} == {"tensor(float)"}

    def _check(self, outputs: set[str]) -> None:
        lacking = {"input_ids"} - self._inputs | set(self._outputs) - outputs
        strange = self._inputs - _KNOWN - set(self._past_names)
        layers = self.facts.num_hidden_layers
        if lacking or strange or len(self._pasts) != 2 * layers:
            raise ArtifactError(
                f"not a decoder of {layers} layers with a cache: it lacks {_words(lacking)}, "
                f"asks for {_words(strange)}, and has {len(self._pasts)} inputs for a cache; export it again"
            )

    def start(self) -> OrtCache | SharedCache:
        """See `DecoderSession.start`."""
        heads, width = self.facts.num_key_value_heads, self.facts.head_dim
        if self._in_place:
            shared = Buffers(self._session, self._past_names, (1, heads, self.facts.max_length, width))
            return shared.cache(self.facts, 0)
        shape = (1, heads, 0, width)
        pasts = [_value(np.zeros(shape, dtype=_TYPES[item.type])) for item in self._pasts]
        return OrtCache(self.facts, self._past_names, pasts, 0)

    def run(self, ids: Ids, cache: OrtCache | SharedCache) -> tuple[Logits, OrtCache | SharedCache]:
        """See `DecoderSession.run`."""
        before, after = cache.length, cache.length + len(ids)
        check_room(after, self.capacity)
        feed = {"input_ids": _value(np.asarray(ids, dtype=np.int64)[None])}
        if "attention_mask" in self._inputs:
            feed["attention_mask"] = _value(np.ones((1, after), dtype=np.int64))
        if "position_ids" in self._inputs:
            feed["position_ids"] = _value(np.arange(before, after, dtype=np.int64)[None])
        try:
            logits, longer = self._fed(feed, cache, after)
        except Exception as error:  # the library's exceptions share no public base
            raise ParityError(
                f"onnxruntime cannot run {len(ids)} after {before} tokens ({short_words(error)})"
            ) from None
        check_finite(logits, after)
        return logits, longer

    def _fed(
        self, feed: dict[str, Any], cache: OrtCache | SharedCache, after: int
    ) -> tuple[Logits, OrtCache | SharedCache]:
        if isinstance(cache, SharedCache):
            buffers = cache.buffers.after(cache.length)
            return buffers.run(feed), buffers.cache(self.facts, after)
        pasts = dict(zip(self._past_names, cache.pasts, strict=True))
        found = self._session.run_with_ort_values(self._outputs, {**pasts, **feed})
        logits = np.asarray(found[0].numpy()[0], dtype=np.float32)
        return logits, OrtCache(self.facts, self._past_names, found[1:], after)


def load_ort(model: Path, facts: DecoderFacts, threads: int, provider: str | None = None) -> OrtDecoder:
    """Open a file.

    Raises:
        ArtifactError: it is missing, corrupt, or not a decoder with a cache.
        DeviceError: the provider is not there.
        ParityError: it holds an op that the runtime lacks.
    """
    session = open_graph(model, threads, provider)
    try:
        return OrtDecoder(session, facts, provider or CPU)
    except ArtifactError as error:
        raise ArtifactError(f"{model}: {error}") from None


def _value(array: Any) -> Any:
    """The runtime's value over an array; it copies nothing, and keeps the array alive."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _layer(name: str) -> tuple[int, str]:
    """Layer, and `key` or `value`.

    >>> _layer("past_key_values.3.key")
    (3, 'key')
    """
    _, layer, what = name.split(".")
    return int(layer), what


def _words(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
