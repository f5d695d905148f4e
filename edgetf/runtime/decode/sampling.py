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

_FIRST_LOOK = 1024  # tokens that are sorted first; those of a usual top_p are among them
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
    """The tokens that may be drawn, likeliest first, and their probabilities, which sum to 1.

    >>> tokens, probabilities = left_over(np.log([0.5, 0.2, 0.3]).astype(np.float32), Sampling(1.0, top_p=0.6))
    >>> tokens.tolist(), probabilities.round(3).tolist()
    ([0, 2], [0.625, 0.375])
    """
    scaled = logits.astype(np.float64) / how.temperature
    weights = np.exp(scaled - scaled.max())
    size = len(weights)
    top_k = how.top_k or size
    if top_k >= size and how.top_p == 1:
        return np.arange(size), weights / weights.sum()
    tokens = _likeliest(weights, min(top_k, size) if how.top_k else min(_FIRST_LOOK, size))
    shares = weights[tokens] / (weights[tokens].sum() if how.top_k else weights.sum())
    if shares.sum() < how.top_p - _ROUNDING and not how.top_k:  # a flat distribution: look at all
        tokens = _likeliest(weights, size)
        shares = weights[tokens] / weights.sum()
    count = int(np.searchsorted(shares.cumsum(), how.top_p - _ROUNDING)) + 1
    return tokens[:count], shares[:count] / shares[:count].sum()


def _likeliest(weights: Floats, count: int) -> Ids:
    """The tokens of the `count` largest weights, largest first; of equal ones the lower number first."""
    tokens = np.sort(np.argpartition(-weights, count - 1)[:count])
    return tokens[np.argsort(-weights[tokens], kind="stable")]
