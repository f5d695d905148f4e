"""What a decoder's graph is given with a text and no tokens before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgetf.core.decoder import DecoderFacts
from edgetf.formats.decoder.names import IDS, MASK, POSITIONS
from edgetf.runtime.decode.session import Ids

_TYPES = {"tensor(float)": np.float32, "tensor(int8)": np.int8}


def first_feed(session: Any, facts: DecoderFacts, ids: Ids) -> dict[str, Any]:
    """Every input of an ONNX Runtime session, for one text (T,)."""
    tokens = ids.astype(np.int64)[None]
    feed: dict[str, Any] = {}
    for item in session.get_inputs():
        match item.name:
            case name if name == IDS:
                feed[name] = tokens
            case name if name == MASK:
                feed[name] = np.ones_like(tokens)
            case name if name == POSITIONS:
                feed[name] = np.arange(tokens.shape[1])[None]
            case name:
                feed[name] = np.zeros((1, facts.num_key_value_heads, 0, facts.head_dim), _TYPES[item.type])
    return feed
