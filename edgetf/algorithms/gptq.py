"""Block codes that make up for one another's errors: GPTQ (Frantar et al. 2023).

A product y = W x changes by (W - Q) x. With H = Σ x xᵀ over the inputs of calibration texts the square of that, summed,
is tr((W - Q) H (W - Q)ᵀ). Columns are coded one after another; what column j lost is taken out of those that come
after, by the inverse of H, as in optimal brain surgery. With H^-1 = Uᵀ U, U upper triangular:

    e = (w_j - q_j) / U_jj        W[:, j + 1:] -= e U[j, j + 1:]

Scale and zero point of a block are chosen when its first column is reached, from what the weights are by then; columns
count there by how much their inputs move.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetf.algorithms.block_codes import BlockCodes, encode_blocks

DAMPING = 0.01  # of the mean of H's diagonal, added to it: the paper's


def gptq_blocks(weight: NDArray[np.float32], hessian: NDArray[np.float32], bits: int, size: int) -> BlockCodes:
    """Code a weight (N, K) in blocks of `size` along K, for inputs with the second moments `hessian` (K, K).

    Inputs that do not depend on one another leave nothing to make up for:

    >>> weight = np.array([[-8.0, 4.0, 1.0, 0.0]], np.float32)
    >>> bool((gptq_blocks(weight, np.eye(4), 4, 4).codes == encode_blocks(weight, 4, 4).codes).all())
    True
    """
    rows, width = weight.shape
    upper, counts = inverse_root(hessian), np.diag(hessian)
    left = weight.astype(np.float32).copy()
    blocks, most = -(-width // size), (1 << bits) - 1
    codes = np.zeros((rows, blocks, size), np.uint8)
    scales, zeros = np.empty((rows, blocks), np.float32), np.empty((rows, blocks), np.uint8)
    for block in range(blocks):
        start, end = block * size, min((block + 1) * size, width)
        guess = encode_blocks(left[:, start:end], bits, size, counts[start:end])
        scale, zero = guess.scales[:, 0], guess.zeros[:, 0].astype(np.float32)
        scales[:, block], zeros[:, block] = scale, guess.zeros[:, 0]
        codes[:, block] = guess.zeros  # what fills up the last block stands for 0
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
        lost = np.empty((rows, end - start), np.float32)
        for k, column in enumerate(range(start, end)):
            steps = np.clip(np.rint(left[:, column] * inverse), -zero, most - zero)
            codes[:, block, k] = (steps + zero).astype(np.uint8)
            lost[:, k] = (left[:, column] - steps * scale) / upper[column, column]
            left[:, column + 1 : end] -= np.outer(lost[:, k], upper[column, column + 1 : end])
        left[:, end:] -= lost @ upper[start:end, end:]
    return BlockCodes(codes, scales, zeros, bits, width)


def inverse_root(hessian: NDArray[np.float32]) -> NDArray[np.float32]:
    """U (K, K), upper triangular with Uᵀ U = (H + damping)^-1."""
    return np.linalg.cholesky(np.linalg.inv(damped(hessian))).T.astype(np.float32)


def damped(hessian: NDArray[np.float32]) -> NDArray[np.float64]:
    """H + damping, (K, K); an input that never comes counts as independent."""
    found = np.array(hessian, dtype=np.float64)
    idle = np.diag(found) == 0
    found[idle, idle] = 1.0
    np.fill_diagonal(found, np.diag(found) + DAMPING * np.diag(found).mean())
    return found
