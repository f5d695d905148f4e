"""Block codes made better one at a time, for the product that they are read by: coordinate descent.

What GPTQ leaves is no minimum of its own measure, tr((W - Q) H (W - Q)ᵀ): a column is coded before those behind it are
known, and a block's scale before any of its codes. So first the scales of a row are fitted anew to its codes, all at
once, by least squares. Then each code in turn goes where, with all others as they are, the measure is least:

    q_j ← q_j + ((W - Q) H)_j / H_jj, rounded to what its block can store

Source: CDQuant (Nair and Suggala 2024).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgetf.algorithms.block_codes import BlockCodes
from edgetf.algorithms.gptq import damped

ROWS = 128  # whose scales are fitted at a time, to bound memory
Floats = NDArray[np.float32]


def descend(codes: BlockCodes, weight: Floats, hessian: Floats) -> BlockCodes:
    """Better codes and scales for a weight (N, K) whose inputs have the second moments `hessian` (K, K).

    >>> weight = np.array([[1.0, 2.0, 3.0, -4.0]], np.float32)
    >>> one = np.ones((1, 1), np.float32)
    >>> coded = BlockCodes(np.array([[[9, 10, 10, 4]]], np.uint8), one, np.full((1, 1), 8, np.uint8), bits=4, width=4)
    >>> descend(coded, weight, np.eye(4, dtype=np.float32)).codes.tolist()
    [[[9, 10, 11, 4]]]
    """
    missing = codes.codes.shape[1] * codes.codes.shape[2] - codes.width  # what fills up the last block
    padded = np.pad(weight.astype(np.float32), ((0, 0), (0, missing)))
    moments = np.pad(damped(hessian).astype(np.float32), (0, missing))
    fitted = replace(codes, scales=_fitted_scales(codes, padded, moments))
    return replace(fitted, codes=_descended(fitted, padded, moments))


def _fitted_scales(codes: BlockCodes, weight: Floats, moments: Floats) -> Floats:
    """The scales (N, B) that change a product least, with the codes as they are; a block of zeros keeps its own."""
    _, blocks, size = codes.codes.shape
    scales = codes.scales.copy()
    for start in range(0, len(scales), ROWS):
        rows = slice(start, start + ROWS)
        steps = codes.codes[rows].astype(np.float32) - codes.zeros[rows, :, None]
        products = np.empty((len(steps), blocks, blocks))  # of steps with steps, by block and block
        for block in range(blocks):
            seen = steps[:, block] @ moments[block * size : (block + 1) * size]
            products[:, block] = (seen.reshape(steps.shape) * steps).sum(-1)
        wanted = ((weight[rows] @ moments).reshape(steps.shape) * steps).sum(-1)
        idle = np.einsum("nbb->nb", products) == 0
        products[idle[:, :, None] & np.eye(blocks, dtype=bool)] = 1.0
        found = np.linalg.solve(products, wanted[..., None].astype(np.float64))[..., 0]
        scales[rows] = np.where(idle, scales[rows], found)
    return scales


def _descended(codes: BlockCodes, weight: Floats, moments: Floats) -> NDArray[np.uint8]:
    """The codes (N, B, S) after one turn for each of them."""
    rows, blocks, size = codes.codes.shape
    found, scales, zeros = codes.codes.copy(), codes.scales, codes.zeros.astype(np.float32)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales != 0)
    curvature = np.diag(moments).copy()
    curvature[curvature == 0] = 1.0
    values = (codes.codes.astype(np.float32) - zeros[..., None]) * scales[..., None]
    slopes = (weight - values.reshape(rows, -1)) @ moments
    for block in range(blocks):
        start, end = block * size, (block + 1) * size
        slope, moved = slopes[:, start:end].copy(), np.empty((rows, size), np.float32)
        for k, column in enumerate(range(start, end)):
            best = (values[:, block, k] + slope[:, k] / curvature[column]) * inverse[:, block]
            code = np.clip(np.rint(best) + zeros[:, block], 0, (1 << codes.bits) - 1)
            moved[:, k] = (code - zeros[:, block]) * scales[:, block] - values[:, block, k]
            found[:, block, k] = code.astype(np.uint8)
            slope -= np.outer(moved[:, k], moments[column, start:end])
        slopes -= moved @ moments[start:end]
    return found
