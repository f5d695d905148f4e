"""How a GGUF file slows pairs of channels: llama.cpp keeps what Llama 3.1's rule comes to, and not the rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.rope import llama3_factors

FACTORS = "rope_freqs.weight"
_LOW, _HIGH, _TRAINED = 1.0, 4.0, 8192  # of every Llama from 3.1 on


def llama3_rule(factors: NDArray[np.float32], theta: float) -> dict[str, Any] | None:
    """The rule by which a Llama 3.1 has these factors (D / 2), as its config has it; None: they are another's.

    >>> rule = llama3_rule(np.array(llama3_factors(5e5, 64, 32.0, 1.0, 4.0, 8192), np.float32), 5e5)
    >>> rule["factor"] if rule else None
    32.0
    >>> llama3_rule(np.array([1.0, 2.0, 3.0, 4.0], np.float32), 5e5) is None
    True
    """
    factor = float(factors.max(initial=0))
    if factor <= 0:
        return None
    wanted = llama3_factors(theta, 2 * len(factors), factor, _LOW, _HIGH, _TRAINED)
    if not np.allclose(factors, wanted, rtol=1e-3):
        return None
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": _TRAINED,
    }
