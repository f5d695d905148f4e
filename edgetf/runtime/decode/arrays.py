"""Arrays inside a JSON message: numpy's own .npz, as base64. Ten times smaller than lists of numbers, and exact."""

from __future__ import annotations

import base64
import binascii
import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import EdgetfError

Array = NDArray[Any]


def packed(arrays: Mapping[str, Array | None]) -> str:
    """The arrays in one text; those that are None are left out.

    >>> unpacked(packed({"a": np.arange(3), "b": None}))
    {'a': array([0, 1, 2])}
    """
    stream = io.BytesIO()
    there = {name: array for name, array in arrays.items() if array is not None}
    np.savez_compressed(stream, **there)  # type: ignore[arg-type]
    return base64.b64encode(stream.getvalue()).decode("ascii")


def unpacked(text: str) -> dict[str, Array]:
    """What `packed` wrote.

    Raises:
        EdgetfError: it is something else.
    """
    try:
        with np.load(io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (binascii.Error, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise EdgetfError(f"arrays: not an .npz file as base64 ({error})") from None
