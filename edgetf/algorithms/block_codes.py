"""Weights as small integers in blocks, each block with a scale and a zero point of its own.

A weight w of a block is stored as a code q of `bits` bits and read as (q - z) * s. The block's largest weight alone is
no good guide to s: of several scales around it the one is taken that, with the codes rounded by it and then refitted by
least squares, ``s = Σ w (q - z) / Σ (q - z)²``, changes the block least. So does llama.cpp (`make_qx_quants`). Of few
bits the zero point need not be the middle of the codes: a block of weights that lean to one side uses all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRIES = 9  # scales tried on each side of the plain one
LEANING = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)  # shares of a block's range that codes may span, its ends cut off
ROWS = 256  # coded at a time, to bound memory


@dataclass(frozen=True)
class BlockCodes:
    """Codes (N, B, S) of a weight (N, K) in B = ceil(K / S) blocks, the last one filled up; scales, zeros (N, B)."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8]
    bits: int
    width: int  # K

    def packed(self) -> NDArray[np.uint8]:
        """Codes as they are stored, (N, B, S * bits / 8): of two in a byte the first is the lower.

        >>> one = np.ones((1, 1), np.float32)
        >>> BlockCodes(np.array([[[1, 2]]], np.uint8), one, np.full((1, 1), 8, np.uint8), 4, 2).packed().tolist()
        [[[33]]]
        """
        return self.codes if self.bits == 8 else _in_bytes(self.codes)

    def packed_zeros(self) -> NDArray[np.uint8] | None:
        """Zero points as they are stored, (N, ceil(B * bits / 8)); None: all of them are the middle of the codes."""
        if (self.zeros == 1 << (self.bits - 1)).all():
            return None
        return self.zeros if self.bits == 8 else _in_bytes(np.pad(self.zeros, ((0, 0), (0, self.zeros.shape[1] % 2))))

    def weights(self) -> NDArray[np.float32]:
        """The weights (N, K) that the codes stand for."""
        values = (self.codes.astype(np.float32) - self.zeros[..., None]) * self.scales[..., None]
        return np.asarray(values.reshape(len(values), -1)[:, : self.width])


def _in_bytes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two codes of 4 bits a byte, the first in the lower half."""
    return codes[..., ::2] | np.left_shift(codes[..., 1::2], np.uint8(4))


def encode_blocks(
    weight: NDArray[np.float32], bits: int, size: int, importance: NDArray[np.float32] | None = None
) -> BlockCodes:
    """Code a weight (N, K) in blocks of `size` along K; what columns lose counts by their `importance` (K,), if given.

    >>> encode_blocks(np.array([[-8.0, 4.0, 1.0, 0.0]], np.float32), 4, 4).weights().tolist()
    [[-8.0, 4.0, 1.0, 0.0]]
    >>> encode_blocks(np.array([[0.0, 7.5, 15.0, 3.0]], np.float32), 4, 4).zeros.tolist()
    [[0]]
    """
    rows, width = weight.shape
    blocks = -(-width // size)
    counts = np.ones(width, np.float32) if importance is None else importance.astype(np.float32)
    counts = np.pad(counts, (0, blocks * size - width)).reshape(blocks, size)
    codes = np.empty((rows, blocks, size), np.uint8)
    scales, zeros = np.empty((rows, blocks), np.float32), np.empty((rows, blocks), np.uint8)
    for start in range(0, rows, ROWS):
        part = weight[start : start + ROWS].astype(np.float32)
        padded = np.pad(part, ((0, 0), (0, blocks * size - width))).reshape(len(part), blocks, size)
        best = _Best(padded, counts, (1 << bits) - 1)
        for inverse, zero in _guesses(padded, bits):
            best.offer(inverse, zero)
        end = start + len(part)
        codes[start:end], scales[start:end], zeros[start:end] = best.codes, best.scales, best.zeros
    return BlockCodes(codes, scales, zeros, bits, width)


def _guesses(blocks: NDArray[np.float32], bits: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Inverse scales and zero points (N, B, 1) worth trying for blocks (N, B, S)."""
    middle, most = 1 << (bits - 1), (1 << bits) - 1
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)  # with its sign
    plain = np.full_like(extreme, middle)
    for shift in range(-TRIES, TRIES + 1) if bits < 8 else (0,):
        yield _divided(-(middle + 0.1 * shift), extreme), plain
    if bits == 8:
        return
    low, high = np.minimum(blocks.min(-1, keepdims=True), 0), np.maximum(blocks.max(-1, keepdims=True), 0)
    for share in LEANING:
        inverse = _divided(most / share, high - low)
        yield inverse, np.clip(np.rint(-low * share * inverse), 0, most)


def _divided(number: float, by: NDArray[np.float32]) -> NDArray[np.float32]:
    """A quotient that is 0 where there is nothing to divide by."""
    return np.divide(number, by, out=np.zeros_like(by), where=by != 0)


class _Best:
    """For every block (N, B, S) the codes that change it least of all that were offered."""

    def __init__(self, blocks: NDArray[np.float32], counts: NDArray[np.float32], most: int) -> None:
        self._blocks, self._counts, self._most = blocks, counts, most
        shape = blocks.shape[:2]
        self._change = np.full(shape, np.inf, np.float32)
        self.codes = np.zeros(blocks.shape, np.uint8)
        self.scales, self.zeros = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)

    def offer(self, inverse: NDArray[np.float32], zero: NDArray[np.float32]) -> None:
        """Round by these scales and zero points (N, B, 1), refit the scales, and keep what is better."""
        steps = np.clip(np.rint(self._blocks * inverse), -zero, self._most - zero)
        products, squares = ((self._counts * each * steps).sum(-1) for each in (self._blocks, steps))
        scales = np.divide(products, squares, out=np.zeros_like(products), where=squares != 0)
        change = (self._counts * np.square(self._blocks - steps * scales[..., None])).sum(-1)
        better = change < self._change
        self._change = np.where(better, change, self._change)
        self.scales = np.where(better, scales, self.scales)
        self.zeros = np.where(better, zero[..., 0], self.zeros).astype(np.uint8)
        self.codes[better] = (steps + zero)[better].astype(np.uint8)
