"""What every session of a decoder refuses."""

from __future__ import annotations

import numpy as np

from edgetf.core.errors import ParityError
from edgetf.runtime.decode.session import Logits


def check_room(tokens: int, capacity: int | None) -> None:
    """Pass where a cache can hold so many tokens.

    Raises:
        ParityError: they are more.
    """
    if capacity is not None and tokens > capacity:
        raise ParityError(f"{tokens} tokens are more than the {capacity} of this model; give fewer, or a window")


def check_finite(logits: Logits, tokens: int) -> None:
    """Pass where logits (T, V) behind so many tokens are numbers.

    Raises:
        ParityError: one is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise ParityError(f"NaN or infinite logits behind {tokens} tokens; the model is broken")
