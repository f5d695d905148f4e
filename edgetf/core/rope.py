"""How fast RoPE turns each pair of channels of a decoder's queries and keys.

Pair i of D/2 turns by ``theta^(-2i / D) / scaling / factor_i`` radians a position. Llama 3.1 leaves the fast pairs
alone, slows the slow ones by a factor and those between by less, so that each has a `factor_i` of its own.

Sources: Su et al. 2021 (RoPE); Grattafiori et al. 2024 (Llama 3), as `rope_type: llama3` of transformers has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.decoder import DecoderFacts


def frequencies(
    facts: DecoderFacts, layer: int, precision: type[np.float32] | type[np.float64] = np.float64
) -> NDArray[Any]:
    """Radians a position of every pair (D / 2,) in a layer, each step in the precision asked for.

    >>> frequencies(DecoderFacts(1, 1, 1, 4, 4, 8, 8, thetas=(100.0,), rope_factors=(1.0, 2.0)), 0).tolist()
    [1.0, 0.05]
    """
    number: Any = precision
    pairs = np.arange(0, facts.head_dim, 2).astype(precision) / number(facts.head_dim)
    divisor = facts.rope_scaling[layer] if facts.rope_scaling else 1.0
    found = number(1) / number(facts.thetas[layer]) ** pairs / number(divisor)
    return np.asarray(found / np.asarray(facts.rope_factors or (1.0,), precision))


def llama3_factors(
    theta: float, width: int, factor: float, low: float, high: float, positions: int
) -> tuple[float, ...]:
    """The factors (D / 2) of Llama 3.1 for heads of a width and the positions that the model was first trained on.

    Pairs that turn at least `high` times in them are left alone, those that turn at most `low` times slow down by
    `factor`.

    >>> [round(each, 2) for each in llama3_factors(10_000.0, 8, factor=8.0, low=1.0, high=4.0, positions=64)]
    [1.0, 7.67, 8.0, 8.0]
    """
    turns = positions * theta ** (-np.arange(0, width, 2) / width) / (2 * np.pi)  # in all of them
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return tuple((1 / ((1 - smooth) / factor + smooth)).tolist())
