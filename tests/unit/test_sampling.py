"""Tokens are drawn as the logits, the temperature, the cuts and the seed say."""

from __future__ import annotations

import numpy as np
import pytest

from edgetf.core.errors import ConfigError
from edgetf.runtime.decode.sampling import Sampler, Sampling, left_over

P = np.array([0.4, 0.1, 0.3, 0.2])
LOGITS = np.log(P).astype(np.float32)


def drawn(how: Sampling, count: int = 10_000) -> np.ndarray:
    """How often each token was drawn, as a fraction."""
    sampler = Sampler(how, len(P))
    return np.bincount([sampler.choose(LOGITS) for _ in range(count)], minlength=len(P)) / count


def test_without_a_temperature_the_likeliest_is_taken() -> None:
    assert drawn(Sampling(), 10).tolist() == [1, 0, 0, 0]
    assert drawn(Sampling(temperature=0.0, top_p=0.5, top_k=3), 10).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (Sampling(1.0), P),
        (Sampling(0.5), P**2 / (P**2).sum()),
        (Sampling(2.0), P**0.5 / (P**0.5).sum()),
        (Sampling(1.0, top_k=2), np.array([4, 0, 3, 0]) / 7),
        (Sampling(1.0, top_p=0.7), np.array([4, 0, 3, 0]) / 7),
        (Sampling(1.0, top_p=0.71), np.array([4, 0, 3, 2]) / 9),
        (Sampling(1.0, top_k=3, top_p=0.7), np.array([4, 0, 3, 0]) / 7),  # of 4/9, 3/9, 2/9 the first two
        (Sampling(0.5, top_k=3), np.array([16, 0, 9, 4]) / 29),
    ],
)
def test_ten_thousand_draws_have_the_distribution(how: Sampling, wanted: np.ndarray) -> None:
    error = 4 * np.sqrt(wanted * (1 - wanted) / 10_000)  # four standard errors
    assert (np.abs(drawn(how) - wanted) <= error).all()


@pytest.mark.parametrize(("top_p", "left"), [(1e-9, 1), (0.399, 1), (0.401, 2), (0.9, 3), (0.999999, 4), (1.0, 4)])
def test_top_p_leaves_the_fewest_tokens_that_reach_it(top_p: float, left: int) -> None:
    tokens, shares = left_over(LOGITS, Sampling(1.0, top_p=top_p))
    assert len(tokens) == left and shares.sum() == pytest.approx(1)


def test_top_p_of_a_flat_distribution_over_a_large_vocabulary() -> None:
    tokens, shares = left_over(np.zeros(50_000, dtype=np.float32), Sampling(1.0, top_p=0.5))
    assert len(tokens) == 25_000 and np.unique(shares.round(12)).size == 1


def test_top_p_of_a_large_vocabulary_is_that_of_sorting_all_of_it() -> None:
    logits = np.random.default_rng(0).permutation(np.linspace(0, 12, 5000)).astype(np.float32)
    p = np.sort(np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum())[::-1]
    for top_p in (0.5, 0.8, 0.9, 0.99, 0.9999):
        tokens, _ = left_over(logits, Sampling(1.0, top_p=top_p))
        assert len(tokens) == int((p.cumsum() < top_p).sum()) + 1


def test_top_k_of_more_than_all_tokens_cuts_nothing() -> None:
    assert len(left_over(LOGITS, Sampling(1.0, top_k=99))[0]) == 4


def test_the_same_seed_draws_the_same_tokens() -> None:
    one, two, other = (Sampler(Sampling(1.0, seed=seed), 4) for seed in (7, 7, 8))
    tokens = [[sampler.choose(LOGITS) for _ in range(50)] for sampler in (one, two, other)]
    assert tokens[0] == tokens[1] != tokens[2]


def test_what_stands_in_the_text_is_less_likely() -> None:
    sampler = Sampler(Sampling(repetition_penalty=1.5), 3)
    logits = np.array([1.0, 0.9, 0.8], dtype=np.float32)
    sampler.see(np.array([0]))
    assert [sampler.choose(logits) for _ in range(3)] == [1, 2, 0]  # in the end all are lowered alike


def test_large_logits_do_not_overflow() -> None:
    assert left_over(np.array([1e5, 0.0, -1e5], dtype=np.float32), Sampling(0.01))[1].tolist() == [1.0, 0.0, 0.0]


def test_numbers_out_of_range_are_named_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(temperature=-1, top_k=-1, top_p=0, seed=-1, repetition_penalty=0)
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "temperature", "top_k", "top_p", "seed", "repetition_penalty",
    ]  # fmt: skip
