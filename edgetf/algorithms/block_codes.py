"""Weights as small integers in blocks, each block with a scale of its own.

A weight w of a block is stored as a code q of `bits` bits and read as (q - 2^(bits - 1)) * s. For s the largest weight
of the block alone is no good guide: of several scales around it the one is taken that, with the codes rounded by it and
then refitted by least squares, ``s = Σ w q / Σ q²``, changes the block least. So does llama.cpp (`make_qx_quants`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetf.core.metrics import Floats

TRIES = 9  # scales tried on each side of the plain one
ROWS = 256  # coded at a time, to bound memory


@dataclass(frozen=True)
class BlockCodes:
    """Codes (N, B, S) of a weight (N, K) in B = ceil(K / S) blocks of S, the last one filled up, and scales (N, B)."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    bits: int
    width: int  # K

    def packed(self) -> NDArray[np.uint8]:
        """Codes as they are stored, (N, B, S * bits / 8): of two in a byte the first is the lower.

        >>> BlockCodes(np.array([[[1, 2]]], np.uint8), np.ones((1, 1), np.float32), 4, 2).packed().tolist()
        [[[33]]]
        """
        if self.bits == 8:
            return self.codes
        return self.codes[..., ::2] | np.left_shift(self.codes[..., 1::2], np.uint8(4))

    def weights(self) -> Floats:
        """The weights (N, K) that the codes stand for."""
        values = (self.codes.astype(np.float32) - (1 << (self.bits - 1))) * self.scales[..., None]
        return np.asarray(values.reshape(len(values), -1)[:, : self.width])


def encode_blocks(weight: Floats, bits: int, size: int) -> BlockCodes:
    """Code a weight (N, K) in blocks of `size` along K.

    >>> encode_blocks(np.array([[-8.0, 4.0, 1.0, 0.0]], np.float32), 4, 4).codes.tolist()
    [[[0, 12, 9, 8]]]
    """
    rows, width = weight.shape
    blocks = -(-width // size)
    codes = np.empty((rows, blocks, size), np.uint8)
    scales = np.empty((rows, blocks), np.float32)
    for start in range(0, rows, ROWS):
        part = weight[start : start + ROWS].astype(np.float32)
        padded = np.pad(part, ((0, 0), (0, blocks * size - width))).reshape(len(part), blocks, size)
        codes[start : start + ROWS], scales[start : start + ROWS] = _encode(padded, bits)
    return BlockCodes(codes, scales, bits, width)


def _encode(blocks: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes and scales of blocks (N, B, S)."""
    middle = 1 << (bits - 1)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)  # (N, B, 1), with its sign
    best = np.full(extreme.shape[:2], np.inf, np.float32)
    best_codes, best_scales = np.zeros(blocks.shape, np.int16), np.zeros(extreme.shape[:2], np.float32)
    for shift in range(-TRIES, TRIES + 1) if bits < 8 else (0,):
        inverse = np.divide(-(middle + 0.1 * shift), extreme, out=np.zeros_like(extreme), where=extreme != 0)
        codes = np.clip(np.rint(blocks * inverse), -middle, middle - 1)
        products, squares = (blocks * codes).sum(-1), (codes * codes).sum(-1)
        scales = np.divide(products, squares, out=np.zeros_like(products), where=squares != 0)
        change = np.square(blocks - codes * scales[..., None]).sum(-1)
        better = change < best
        best = np.where(better, change, best)
        best_scales = np.where(better, scales, best_scales)
        best_codes[better] = codes[better].astype(np.int16)
    return (best_codes + middle).astype(np.uint8), best_scales
