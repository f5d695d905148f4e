"""The next token from the logits: the likeliest, or one drawn from those that are left after cuts.

In the order of transformers: a penalty for tokens that stand in the text already (their logits are divided by it where
positive, else multiplied; Keskar et al. 2019), the temperature, the `top_k` likeliest, then of those the fewest whose
probabilities sum to `top_p` or more (Holtzman et al. 2020).

One number in [0, 1) is taken from numpy's PCG64 for every token and looked up in the cumulated probabilities, so that
the same seed gives the same tokens wherever the logits are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgetf.core.errors import ConfigError
from edgetf.core.metrics import Floats
from edgetf.runtime.decode.session import Ids, Logits

_ROUNDING = 1e-12  # of sums of probabilities


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; the default is the likeliest. `top_k` 0 and `top_p` 1 cut nothing."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        """Raises ConfigError for a number out of its range."""
        problems = [
            f"{name}: got {getattr(self, name)}, allowed: {allowed}"
            for name, allowed, fine in (
                ("temperature", "0 (the likeliest token) or more", 0 <= self.temperature < float("inf")),
                ("top_k", "0 (all tokens) or more", self.top_k >= 0),
                ("top_p", "more than 0, up to 1", 0 < self.top_p <= 1),
                ("seed", "0 or more", self.seed >= 0),
                ("repetition_penalty", "more than 0", 0 < self.repetition_penalty < float("inf")),
            )
            if not fine
        ]
        if problems:
            raise ConfigError(problems)


class Sampler:
    """Chooses the tokens of one text."""

    def __init__(self, sampling: Sampling, vocab_size: int) -> None:
        self._how = sampling
        self._random = np.random.default_rng(sampling.seed)
        self._seen = np.zeros(vocab_size, dtype=bool)

    def see(self, ids: Ids) -> None:
        """These tokens stand in the text."""
        self._seen[ids] = True

    def choose(self, logits: Logits) -> int:
        """The next token for logits (V,)."""
        if self._how.repetition_penalty != 1.0:
            logits = penalized(logits, self._seen, self._how.repetition_penalty)
        if self._how.temperature == 0.0:
            token = int(logits.argmax())
        else:
            tokens, probabilities = left_over(logits, self._how)
            place = int(np.searchsorted(probabilities.cumsum(), self._random.random(), side="right"))
            token = int(tokens[min(place, len(tokens) - 1)])  # the sum may fall short of 1 by a rounding
        self._seen[token] = True
        return token


def penalized(logits: Logits, seen: np.ndarray[tuple[int], np.dtype[np.bool_]], penalty: float) -> Logits:
    """Logits (V,) where those of the tokens `seen` (V,) are lowered.

    >>> penalized(np.array([2.0, -2.0, 2.0], dtype=np.float32), np.array([True, True, False]), 2.0).tolist()
    [1.0, -4.0, 2.0]
    """
    lower = np.where(logits > 0, logits / np.float32(penalty), logits * np.float32(penalty))
    return np.where(seen, lower, logits)


def left_over(logits: Logits, how: Sampling) -> tuple[Ids, Floats]:
    """The tokens that may be drawn, ascending, and their probabilities, which sum to 1.

    >>> tokens, probabilities = left_over(np.log([0.5, 0.2, 0.3]).astype(np.float32), Sampling(1.0, top_p=0.6))
    >>> tokens.tolist(), probabilities.round(3).tolist()
    ([0, 2], [0.625, 0.375])
    """
    scaled = logits.astype(np.float64) / how.temperature
    weights = np.exp(scaled - scaled.max())
    tokens = np.arange(len(weights))
    if 0 < how.top_k < len(weights):
        tokens = _largest(weights, how.top_k)
    if how.top_p < 1:
        tokens = tokens[_nucleus(weights[tokens], how.top_p)]
    return tokens, weights[tokens] / weights[tokens].sum()


def _nucleus(weights: Floats, top_p: float) -> Ids:
    """The places of the fewest weights that are `top_p` of their sum or more.

    All weights below ``(1 - top_p) / n`` of the sum together are less than ``1 - top_p`` of it, so that none of them is
    needed: this leaves few to sort.
    """
    total = weights.sum()
    high = np.flatnonzero(weights >= (1 - top_p) / len(weights) * total)
    sums = np.sort(weights[high])[::-1].cumsum()
    count = int(np.searchsorted(sums, (top_p - _ROUNDING) * total)) + 1
    return np.asarray(high[_largest(weights[high], min(count, len(high)))])


def _largest(weights: Floats, count: int) -> Ids:
    """The places of the `count` largest weights, ascending; of equal ones the first.

    >>> _largest(np.array([1.0, 3.0, 1.0, 2.0]), 3).tolist()
    [0, 1, 3]
    """
    cut = np.partition(weights, len(weights) - count)[len(weights) - count]
    above, equal = np.flatnonzero(weights > cut), np.flatnonzero(weights == cut)
    return np.sort(np.concatenate([above, equal[: count - len(above)]]))
