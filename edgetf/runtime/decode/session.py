"""What a runtime must offer to run a decoder step by step.

The ONNX graph has the names that Optimum and onnxruntime-genai use: `input_ids` (B, T), `attention_mask`
(B, P + T), where the graph asks for them `position_ids` (B, T), and for each layer `past_key_values.N.key` and
`.value` (B, KV, P, D); it gives `logits` (B, T, V), `present.N.key` and `present.N.value` (B, KV, P + T, D). P = 0 is
the prefill. Keys are stored as RoPE has turned them, in halves as transformers has them. Where the facts say that the
cache is int8, so are these; its scales are constants of the graph. A TFLite file has the signatures `prefill_T`
(several T) and `decode` over a cache of a fixed length.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts
from edgetf.runtime.backend import Engine

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


class Cache(Protocol):
    """The keys and values of the tokens so far, of one text; a runtime knows how they lie."""

    length: int  # tokens that it holds

    def keep(self, kept: NDArray[np.int64]) -> Cache:
        """Only these tokens, at the positions 0 … len(kept) - 1: their keys are turned to where they now stand.

        `kept` ascends. The cache that it was is not changed.

        Raises:
            ParityError: the positions of the model are learned, so that its keys cannot be turned.
        """
        ...


class DecoderSession(Protocol):
    """A loaded decoder, for one text at a time."""

    facts: DecoderFacts
    engine: Engine
    capacity: int | None  # tokens that a cache can hold; None: any number

    def start(self) -> Any:
        """An empty cache."""
        ...

    def run(self, ids: Ids, cache: Any) -> tuple[Logits, Any]:
        """Logits (T, V) in float32 behind each of the tokens `ids` (T,), and the cache that holds them too.

        Raises:
            ParityError: more tokens than the cache can hold, or logits that are not finite.
        """
        ...
