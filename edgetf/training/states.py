"""The teacher's token states on disk, so that it need not run, or be in memory, while a student learns from it.

The pieces lie in blocks, which several processes or machines may write. A block's file holds its pieces one after the
other without padding: of each the signals in the order of their names, (T, W) in float16, or (1, W) where only the
first token is wanted. A batch is read piece by piece at its offset: mapped pages would count as the process's own
memory, and a file may be larger than that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetf.core.artifact import key_of
from edgetf.core.errors import ArtifactError
from edgetf.core.files import read_json, whole_file
from edgetf.core.part import WHOLE, Part
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.models.families import family_of
from edgetf.runtime.encoder import Encoder
from edgetf.training import processes
from edgetf.training.batches import Rows, in_order
from edgetf.training.blocks import missing, split_rows
from edgetf.training.taps import Taps

_WIDTHS = "widths.json"


@dataclass(frozen=True)
class Wish:
    """Which signals of a teacher are wanted, by its fingerprint, that of the texts, and their pieces of its tokens.

    `first_only`: of the first token alone, which every tokenizer has, so that student and teacher may read others.
    """

    teacher: str
    texts: str
    names: tuple[str, ...]
    rows: Rows
    encoder: Encoder
    first_only: bool = False

    @cached_property
    def folder(self) -> Path:
        """Where they lie in the cache."""
        rule = [len(self.rows), self.encoder.max_length, self.encoder.long_texts, self.first_only]
        key = key_of(["blocks", self.teacher, self.texts, sorted(self.names), *rule])
        return cache_folder() / "teacher-states" / key[:24]

    @cached_property
    def blocks(self) -> list[tuple[range, Path]]:
        """The pieces of each block, and its file."""
        return [(rows, self.folder / f"block-{k:03}.f16") for k, rows in enumerate(split_rows(len(self.rows)))]

    def tokens(self, position: int) -> int:
        """How many tokens of a piece are stored."""
        return 1 if self.first_only else len(self.rows.pieces[position].input_ids)

    def starts(self, block: range) -> NDArray[np.int64]:
        """Before which token of its block each piece begins, (P,)."""
        lengths = [self.tokens(position) for position in block]
        return np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)])


class States:
    """Reads the stored signals of a set of pieces."""

    def __init__(self, wish: Wish) -> None:
        self._tokens, self._size = wish.tokens, len(wish.blocks[0][0])
        self._starts = np.concatenate([wish.starts(block) for block, _ in wish.blocks])
        self._widths: dict[str, int] = read_json(wish.folder / _WIDTHS)
        self._width = sum(self._widths.values())
        for block, file in wish.blocks:
            tokens = sum(map(wish.tokens, block))
            if file.stat().st_size != tokens * self._width * 2:
                raise ArtifactError(f"{file}: damaged; remove it and run the same command again")
        self._files = [os.open(file, os.O_RDONLY) for _, file in wish.blocks]

    def batch(self, positions: Sequence[int], tokens: int) -> dict[str, Tensor]:
        """The signals of these pieces, each (B, tokens, W) in float32, zero where none is stored."""
        found = {
            name: np.zeros((len(positions), tokens, width), dtype=np.float16) for name, width in self._widths.items()
        }
        for row, position in enumerate(positions):
            length, start = self._tokens(position), int(self._starts[position])
            raw = os.pread(self._files[position // self._size], length * self._width * 2, start * self._width * 2)
            numbers, begin = np.frombuffer(raw, dtype=np.float16), 0
            for name, width in self._widths.items():
                found[name][row, :length] = numbers[begin : begin + length * width].reshape(length, width)
                begin += length * width
        return {name: torch.from_numpy(states).float() for name, states in found.items()}

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file)
        self._files = []


def store_states(model: Callable[[], Any], wish: Wish, report: Report, part: Part = WHOLE) -> int:
    """Run the teacher over the pieces of a part that are not stored yet; gives the number of blocks written.

    `model` gives the teacher; it is asked only where something is missing. Of several processes each writes some.
    """
    todo = missing([file for _, file in wish.blocks], part)
    if not todo:
        return 0
    teacher = model().to(processes.device()).eval()
    taps = Taps(teacher, wish.names)
    try:
        for done, number in enumerate(todo):
            report(done, len(todo), "blocks of the teacher's states")
            _write_block(teacher, taps, wish, *wish.blocks[number])
    finally:
        taps.close()
    return len(todo)


def _write_block(teacher: Any, taps: Taps, wish: Wish, block: range, file: Path) -> None:
    """Write the signals of the pieces of a block, batch by batch."""
    token_types = family_of(teacher.config.model_type).takes_token_types
    starts = wish.starts(block)
    with whole_file(file) as place, place.open("wb", buffering=0) as stream, torch.inference_mode():
        for positions, batch in in_order(wish.rows, wish.encoder, block):
            teacher(**batch.to(processes.device()).inputs(token_types))
            signals = {name: taps.last[name].to(torch.float16).cpu().numpy() for name in sorted(wish.names)}
            width = sum(states.shape[-1] for states in signals.values())
            for row, position in enumerate(positions):
                length = wish.tokens(position)
                raw = b"".join(states[row, :length].tobytes() for states in signals.values())
                os.pwrite(stream.fileno(), raw, int(starts[position - block.start]) * width * 2)
        with whole_file(wish.folder / _WIDTHS) as widths:
            widths.write_text(json.dumps({name: states.shape[-1] for name, states in signals.items()}))
