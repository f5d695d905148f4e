"""Codes that make up for one another's errors."""

from __future__ import annotations

import numpy as np
import pytest

from edgetf.algorithms.block_codes import BlockCodes, encode_blocks
from edgetf.algorithms.block_descent import descend
from edgetf.algorithms.gptq import gptq_blocks, inverse_root

RNG = np.random.default_rng(0)


def inputs(tokens: int = 400, width: int = 64) -> np.ndarray:
    """Inputs that depend on one another, some far larger than others, as in a decoder."""
    mixed = RNG.normal(size=(tokens, 8)) @ RNG.normal(size=(8, width)) + 0.3 * RNG.normal(size=(tokens, width))
    return (mixed * np.exp(RNG.normal(size=width))).astype(np.float32)


def lost(codes: BlockCodes, weight: np.ndarray, x: np.ndarray) -> float:
    """The square of what a product changes by."""
    return float(np.square(x @ (codes.weights() - weight).T).sum())


@pytest.mark.parametrize("width", [64, 50])
def test_a_product_changes_less_than_by_rounding(width: int) -> None:
    x, weight = inputs(width=width), RNG.normal(size=(24, width)).astype(np.float32)
    moments = x.T @ x
    rounded, made_up = encode_blocks(weight, 4, 32), gptq_blocks(weight, moments, 4, 32)
    assert lost(made_up, weight, x) < 0.6 * lost(rounded, weight, x)


@pytest.mark.parametrize(("width", "bits"), [(64, 4), (50, 4), (64, 8)])
def test_descent_goes_on_from_there(width: int, bits: int) -> None:
    x, weight = inputs(width=width), RNG.normal(size=(300, width)).astype(np.float32)
    moments = x.T @ x
    made_up = gptq_blocks(weight, moments, bits, 32)
    better = descend(made_up, weight, moments)
    assert lost(better, weight, x) < 0.97 * lost(made_up, weight, x)
    assert (better.codes.max() < 1 << bits) and (better.zeros == made_up.zeros).all()
    filler = better.codes.reshape(300, -1)[:, width:]
    assert (filler == np.repeat(better.zeros, 32, axis=1)[:, width:]).all()  # stands for 0


def test_descent_leaves_zeros_and_what_is_exact_alone() -> None:
    weight = np.zeros((2, 64), np.float32)
    weight[1, :32] = np.arange(-8, 24)[:32] % 16 - 8
    x = inputs()
    found = descend(gptq_blocks(weight, x.T @ x, 4, 32), weight, x.T @ x)
    np.testing.assert_allclose(found.weights(), weight, atol=1e-5)


def test_weights_whose_inputs_matter_are_kept_better() -> None:
    weight = RNG.normal(size=(200, 32)).astype(np.float32)
    importance = np.full(32, 0.01, np.float32)
    importance[:4] = 1.0
    plain, weighted = (encode_blocks(weight, 4, 32, each).weights() - weight for each in (None, importance))
    assert np.square(weighted[:, :4]).sum() < np.square(plain[:, :4]).sum()


def test_an_input_that_never_comes_does_no_harm() -> None:
    x = inputs()
    x[:, 5] = 0
    codes = gptq_blocks(RNG.normal(size=(4, 64)).astype(np.float32), x.T @ x, 4, 32)
    assert np.isfinite(codes.weights()).all()


def test_the_root_is_that_of_the_inverse() -> None:
    x = inputs(width=16)
    moments = x.T @ x
    upper = inverse_root(moments).astype(np.float64)
    damped = moments + 0.01 * np.diag(moments).mean() * np.eye(16)
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(16), atol=2e-3)
    assert (np.tril(upper, -1) == 0).all()


def test_a_block_that_leans_to_one_side_uses_all_codes() -> None:
    weight = RNG.uniform(0, 1, size=(50, 32)).astype(np.float32)
    codes = encode_blocks(weight, 4, 32)
    assert (codes.zeros == 0).all()
    assert np.abs(codes.weights() - weight).max() < 0.5 / 15 + 0.04


def test_zero_points_are_stored_two_in_a_byte() -> None:
    weight = RNG.uniform(0, 1, size=(2, 96)).astype(np.float32)
    packed = encode_blocks(weight, 4, 32).packed_zeros()
    assert packed is not None
    assert packed.shape == (2, 2)
    assert encode_blocks(RNG.normal(size=(2, 64)).astype(np.float32), 8, 32).packed_zeros() is None
