"""Scores of a decoder are those of its distribution, whatever the parts in which they are computed."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_decoder import fake, text_ids

from edgetf.runtime.decode import streaming
from edgetf.runtime.decode.score import TopTokens, divergence, score

BLOCKS = np.stack([text_ids(33, seed) for seed in range(3)]).astype(np.int32)


def distribution(seed: int = 0) -> np.ndarray:
    """Log probabilities (N, T - 1, V), computed in another way."""
    session = fake(seed=seed)
    logits = np.stack([session.run(block[:-1].astype(np.int64), session.start())[0] for block in BLOCKS]).astype(float)
    return np.log(np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True))


def test_the_cost_of_each_token_is_minus_its_log_probability() -> None:
    found, wanted = score(fake(), BLOCKS), distribution()
    picked = np.take_along_axis(wanted, BLOCKS[:, 1:, None].astype(np.int64), axis=-1)[..., 0]
    np.testing.assert_allclose(found.nll, -picked, atol=1e-5)
    np.testing.assert_array_equal(found.argmax, wanted.argmax(axis=-1))
    assert found.kl is None and found.top is None


def test_the_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = score(fake(seed=1), BLOCKS, keep=8).top
    whole = score(fake(), BLOCKS, teacher, keep=5)
    monkeypatch.setattr(streaming, "_NUMBERS", 7 * 300)  # seven tokens at a time
    parts = score(fake(), BLOCKS, teacher, keep=5)
    assert whole.kl is not None and parts.kl is not None and whole.top is not None and parts.top is not None
    for one, other in ((whole.nll, parts.nll), (whole.kl, parts.kl), (whole.top.logprobs, parts.top.logprobs)):
        np.testing.assert_allclose(one, other, atol=2e-5)
    np.testing.assert_array_equal(whole.argmax, parts.argmax)


def test_the_likeliest_tokens_are_kept_in_order() -> None:
    top, wanted = score(fake(), BLOCKS, keep=6).top, distribution()
    assert top is not None and top.ids.shape == (3, 32, 6)
    order = np.argsort(-wanted, axis=-1)[..., :6]
    np.testing.assert_array_equal(top.ids, order)
    np.testing.assert_allclose(top.logprobs, np.take_along_axis(wanted, order, axis=-1), atol=1e-5)


def test_with_all_tokens_kept_the_divergence_is_exact() -> None:
    p, q = distribution(seed=1), distribution()
    found = score(fake(), BLOCKS, score(fake(seed=1), BLOCKS, keep=1000).top)
    assert found.kl is not None
    np.testing.assert_allclose(found.kl, (np.exp(p) * (p - q)).sum(axis=-1), atol=1e-4)


def test_with_few_tokens_kept_the_divergence_is_smaller_but_not_below_zero() -> None:
    kept = []
    for count in (1, 4, 32, 299):
        kl = score(fake(), BLOCKS, score(fake(seed=1), BLOCKS, keep=count).top).kl
        assert kl is not None and (kl > -1e-6).all()
        kept.append(kl.mean())
    assert kept == sorted(kept)


def test_a_model_does_not_diverge_from_itself() -> None:
    kl = score(fake(), BLOCKS, score(fake(), BLOCKS, keep=4).top).kl
    assert kl is not None and np.abs(kl).max() < 1e-5


def test_the_others_are_one_class() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    found = divergence(np.array([[0]], dtype=np.int32), np.log(p[None, :1]), np.log(q[None]).astype(np.float32))
    assert found[0] == pytest.approx(0.5 * np.log(0.5 / 0.2) + 0.5 * np.log(0.5 / 0.8), abs=1e-6)


def test_a_certain_teacher_is_no_infinity() -> None:
    top = TopTokens(np.zeros((3, 32, 1), dtype=np.int32), np.zeros((3, 32, 1), dtype=np.float32))
    kl = score(fake(), BLOCKS, top).kl
    assert kl is not None and np.isfinite(kl).all()


def test_progress_is_told_by_block() -> None:
    told: list[tuple[int, int]] = []
    score(fake(), BLOCKS, tick=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
