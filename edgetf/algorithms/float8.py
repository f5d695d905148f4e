"""FP8 E4M3: numbers of 8 bits with 4 of exponent and 3 of mantissa, as ONNX's FLOAT8E4M3FN has them.

A code ``s eeee mmm`` stands for ``(-1)^s · 2^(e - 7) · (1 + m / 8)``, and where e is 0 for ``(-1)^s · 2^-6 · m / 8``.
There are no infinities; ``s 1111 111`` is NaN, so that the largest number is 448. Between 2^-6 and 448 steps grow with
the numbers, 1/8 to 1/16 of them: a few large values cost the small ones little, unlike with INT8.

Casts round to nearest, ties to even, and saturate: beyond 448 is 448, infinity too, as ONNX's `saturate=1` says. A cast
by ml_dtypes gives NaN beyond 464, from where on the nearest number would be one that is not there, 480; what torch's
gives depends on its version. Every NaN becomes 0x7F, whatever its sign.

Source: Micikevicius et al. 2022, FP8 Formats for Deep Learning, arXiv 2209.05433; ONNX, Float stored in 8 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 448.0
NAN = 0x7F
_BIAS, _MANTISSA_BITS, _LEAST_EXPONENT = 7, 3, -6

Array = NDArray[np.floating[Any]]


def encode(values: Array) -> NDArray[np.uint8]:
    """The codes of float32 numbers, of the same shape.

    >>> [hex(code) for code in encode(np.array([1.0, -448.0, 1e9, 2.0**-9, 0.0, np.nan]))]
    ['0x38', '0xfe', '0x7e', '0x1', '0x0', '0x7f']

    Between 1 and 1.125 the middle goes to the even mantissa:

    >>> decode(encode(np.array([1.0625, 1.0626, 1.1875]))).tolist()
    [1.0, 1.125, 1.25]
    """
    exact = np.asarray(values, dtype=np.float64)
    size = np.minimum(np.abs(exact), LARGEST)
    exponent = np.frexp(np.fmax(size, 2.0**_LEAST_EXPONENT))[1] - 1  # frexp's mantissa lies between 1/2 and 1
    # Steps of the last mantissa bit: up to 8 below 2^-6, elsewhere 8 to 16. The 16th carries into the exponent, as it
    # should, and without the leading bit of 8 a subnormal has exponent 0.
    steps = np.rint(np.ldexp(size, _MANTISSA_BITS - exponent))
    code = (exponent + _BIAS - 1) * 8 + np.nan_to_num(steps)
    signed = np.where(np.signbit(exact), 0x80, 0) + code
    return np.where(np.isnan(exact), NAN, signed).astype(np.uint8)


def _table() -> NDArray[np.float32]:
    """What each of the 256 codes stands for."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - _BIAS)
    size = np.where(exponent == 0, np.ldexp(mantissa / 8, _LEAST_EXPONENT), normal)
    size[codes & NAN == NAN] = np.nan
    return np.where(codes & 0x80, -size, size).astype(np.float32)


_NUMBERS = _table()


def decode(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The numbers that codes stand for, of the same shape.

    >>> decode(np.array([0x38, 0xFE, 0x01, 0x80], dtype=np.uint8)).tolist()
    [1.0, -448.0, 0.001953125, -0.0]
    """
    return _NUMBERS[codes]


def scales(values: Array, axis: int | None = None) -> NDArray[np.float32]:
    """The scale ``max|x| / 448`` of finite numbers: (), of all, or (C,), of each channel along an axis.

    Zeros have a scale of 1, and none is subnormal: what is too small for that rounds to 0.

    >>> scales(np.array([[1.0, -896.0], [0.0, 0.0]])).tolist()
    2.0
    >>> scales(np.array([[1.0, -896.0], [0.0, 0.0]]), axis=0).tolist()
    [2.0, 1.0]

    Raises:
        ValueError: infinity or NaN, which have no scale.
    """
    size = np.abs(np.asarray(values, dtype=np.float32))
    if not np.isfinite(size).all():
        raise ValueError("float8: infinity or NaN among the values, allowed: finite numbers; look where they come from")
    others = None if axis is None else tuple(k for k in range(size.ndim) if k != axis % size.ndim)
    largest = size.max(axis=others, initial=0.0)
    found = np.maximum(largest / np.float32(LARGEST), np.finfo(np.float32).tiny)
    return np.where(largest > 0, found, np.float32(1)).astype(np.float32)


def quantize_dequantize(
    values: Array, scale: NDArray[np.float32] | np.float32, axis: int | None = None
) -> NDArray[np.float32]:
    """What is left of numbers stored in 8 bits: ``scale · decode(encode(x / scale))``, in float32 as runtimes have it.

    `scale` is one number, or (C,) along an axis.

    >>> x = np.array([[448.0, 33.0], [0.4, 0.001]])
    >>> quantize_dequantize(x, scales(x)).tolist()
    [[448.0, 32.0], [0.40625, 0.001953125]]
    """
    given = np.asarray(values, dtype=np.float32)
    factor = np.asarray(scale, dtype=np.float32)
    if axis is not None:
        factor = factor.reshape([-1 if k == axis % given.ndim else 1 for k in range(given.ndim)])
    return decode(encode(given / factor)) * factor
