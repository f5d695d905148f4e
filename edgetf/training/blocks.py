"""Rows in blocks, a file each, so that processes and machines can share a teacher's pass, and a cut one goes on.

Which rows a block has follows from the number of rows alone. It is whole once its file has its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetf.core.part import Part
from edgetf.training import processes

LEAST = 256  # rows of a block: enough to sort by length
MOST = 256  # blocks: a training holds all their files open


def split_rows(rows: int) -> list[range]:
    """The rows of every block.

    >>> split_rows(600)
    [range(0, 256), range(256, 512), range(512, 600)]
    """
    size = max(LEAST, -(-rows // MOST))
    return [range(start, min(start + size, rows)) for start in range(0, rows, size)]


def missing(files: Sequence[Path], part: Part) -> list[int]:
    """The blocks of a part whose files are not there yet, and which this process shall make."""
    left = processes.once(lambda: [k for k in range(part.number - 1, len(files), part.of) if not files[k].is_file()])
    return left[processes.index() :: processes.count()]
