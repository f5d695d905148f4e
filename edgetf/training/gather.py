"""Arrays that a teacher's pass makes block by block, a file each, then joined into files that are memory-mapped.

Several processes or machines may make the blocks, and a cut pass goes on; no more than a block is ever in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edgetf.core.errors import ArtifactError
from edgetf.core.files import whole_file
from edgetf.core.part import WHOLE, Part
from edgetf.core.progress import Report
from edgetf.training import processes
from edgetf.training.blocks import missing, split_rows

Arrays = dict[str, Any]  # of NumPy arrays


@dataclass(frozen=True)
class Shelf:
    """A folder for arrays of as many rows as `answers`, made from `pieces` of something.

    One piece may have several rows. The array `last` is written after all others, so that its file says that they are
    whole.
    """

    folder: Path
    pieces: int
    answers: int
    last: str = "top"

    @property
    def blocks(self) -> list[tuple[range, Path]]:
        """The pieces of each block, and its file."""
        return [(rows, self.folder / f"block-{k:03}.npz") for k, rows in enumerate(split_rows(self.pieces))]

    @property
    def is_whole(self) -> bool:
        """Whether the arrays are joined."""
        return (self.folder / f"{self.last}.npy").is_file()


def fetch(shelf: Shelf, make: Callable[[range], Arrays], report: Report, note: str) -> Arrays:
    """The arrays, memory-mapped, after what is missing of them was made; `note` says what they are."""
    if processes.once(lambda: not shelf.is_whole):
        fill(shelf, make, report, note)
        processes.meet()
        processes.once(lambda: _join(shelf))
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(shelf.folder.glob("*.npy"))}


def fill(shelf: Shelf, make: Callable[[range], Arrays], report: Report, note: str, part: Part = WHOLE) -> int:
    """Write the missing blocks of a part; gives their number, of which each process writes some."""
    if processes.once(lambda: shelf.is_whole):
        return 0
    blocks = shelf.blocks
    todo = missing([file for _, file in blocks], part)
    for done, number in enumerate(todo):
        report(done, len(todo), note)
        pieces, file = blocks[number]
        arrays = make(pieces)
        with whole_file(file) as place, place.open("wb") as stream:
            np.savez(stream, **arrays)
    return len(todo)


def _join(shelf: Shelf) -> None:
    """Write the blocks one after the other into files that can be memory-mapped, the one that is looked for last."""
    files = [file for _, file in shelf.blocks]
    try:
        names = _read_block(files[0]).keys()
        for name in sorted(names, key=lambda name: (name == shelf.last, name)):
            with whole_file(shelf.folder / f"{name}.npy") as place:
                _write_joined(place, files, name, shelf.answers)
    except FileNotFoundError:  # another run has joined them meanwhile
        if not shelf.is_whole:
            raise
    for file in files:
        file.unlink(missing_ok=True)


def _read_block(file: Path) -> Arrays:
    """The arrays of a block.

    Raises:
        ArtifactError: it was not copied whole.
    """
    try:
        with np.load(file) as block:
            return dict(block)
    except (BadZipFile, EOFError, ValueError):
        raise ArtifactError(f"{file}: damaged; remove it and run the same command again") from None


def _write_joined(place: Path, files: list[Path], name: str, answers: int) -> None:
    """One array of all blocks, with so many answers, as a .npy file."""
    with place.open("wb") as stream:
        for number, file in enumerate(files):
            array = _read_block(file)[name]
            if number == 0:
                kind = np.lib.format.dtype_to_descr(array.dtype)
                head = {"descr": kind, "fortran_order": False, "shape": (answers, *array.shape[1:])}
                np.lib.format.write_array_header_1_0(stream, head)
            stream.write(array.tobytes())
