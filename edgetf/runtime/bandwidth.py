"""How fast this machine reads memory: the roof under which a decoder writes, as it reads its weights for every token.

A buffer of float32 is read by as many threads as the model uses, each its own part, by two kernels that do nothing but
read: a product of the buffer with itself (BLAS, wide loads) and the largest of its numbers. The faster one counts, by
the median of its runs. Two sizes say two things: a buffer as large as what a token reads gives the roof of that model,
which lies in a cache if the model fits there; one far larger than the last cache gives that of main memory.

Source: McCalpin 1995 (STREAM), of which only the reading half is asked here, because decoding hardly writes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.made import machine
from edgetf.core.metrics import percentile

BEYOND_CACHES = 4  # times the last cache
LEAST_BYTES, MOST_BYTES = 64 << 20, 1 << 30
ROUND_SECONDS = 0.4  # of each kernel at each size
LEAST_ROUNDS = 5
LEAST_PART = 1 << 20  # bytes for which handing work to a thread pays
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

Buffer = NDArray[np.float32]
Kernel = Callable[[Buffer], object]
KERNELS: dict[str, Kernel] = {"dot": lambda part: part.dot(part), "max": lambda part: part.max()}


def bandwidth(request: dict[str, Any]) -> dict[str, Any]:
    """Bytes a second of buffers of the sizes in `bytes`, and of one beyond the caches, on so many `threads`."""
    last = last_cache_bytes()
    beyond = min(max(LEAST_BYTES, BEYOND_CACHES * (last or 0)), MOST_BYTES, max(LEAST_BYTES, _available() // 4))
    sizes = sorted({*(min(int(size), beyond) for size in request["bytes"]), beyond})
    buffer = np.ones(beyond // 4, dtype=np.float32)
    reads = [_read(buffer[: max(1, size // 4)], int(request["threads"])) for size in sizes]
    return {
        "reads": [{"bytes": size, **each} for size, each in zip(sizes, reads, strict=True)],
        "memory_bytes_per_s": reads[-1]["bytes_per_s"],
        "last_cache_bytes": last,
        "machine": machine(),
    }


def _read(buffer: Buffer, threads: int) -> dict[str, Any]:
    """The faster kernel's bytes a second, by the median of its rounds."""
    parts = np.array_split(buffer, max(1, min(threads, buffer.nbytes // LEAST_PART)))
    found = {}
    with ThreadPoolExecutor(len(parts)) as pool:
        for name, kernel in KERNELS.items():
            taken = _rounds(parts, kernel, pool)
            found[name] = (buffer.nbytes / percentile(taken, 50), len(taken))
    best = max(found, key=lambda name: found[name][0])
    rate, rounds = found[best]
    return {"bytes_per_s": round(rate), "kernel": best, "n": rounds}


def _rounds(parts: Sequence[Buffer], kernel: Kernel, pool: ThreadPoolExecutor) -> list[float]:
    """Seconds of each read of all parts; the first one, which brings in pages and caches, is left out."""
    taken: list[float] = []
    end = time.perf_counter() + ROUND_SECONDS
    while time.perf_counter() < end or len(taken) <= LEAST_ROUNDS:
        start = time.perf_counter()
        if len(parts) == 1:
            kernel(parts[0])
        else:
            list(pool.map(kernel, parts))  # numpy lets go of the interpreter's lock while it reads
        taken.append(time.perf_counter() - start)
    return taken[1:]


def last_cache_bytes(folder: Path = _CACHES) -> int | None:
    """Bytes of the largest cache of the first core, None where the system does not say."""
    found = []
    for entry in folder.glob("index*/size"):
        try:
            word = entry.read_text().strip()
            found.append(int(word[:-1]) * _UNITS[word[-1]] if word[-1] in _UNITS else int(word))
        except (OSError, ValueError, IndexError):
            continue
    return max(found, default=None)


def _available() -> int:
    """Bytes of memory that are free for use; half a gibibyte where the system does not say."""
    try:
        return int(os.sysconf("SC_AVPHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        return 1 << 29
