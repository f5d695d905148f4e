"""The teacher's token states on disk, so that it need not run, or be in memory, while a student learns from it.

One float16 file a signal, (tokens of all pieces, W), pieces one after the other without padding. A batch is read piece
by piece at its offset: mapped pages would count as the process's own memory, and a file may be larger than that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgetf.core.artifact import key_of
from edgetf.core.files import guard_disk
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.models.families import family_of
from edgetf.runtime.encoder import Encoder
from edgetf.training.batches import Rows, in_order
from edgetf.training.taps import Taps

_DONE = "widths.json"
Widths = dict[str, int]


class States:
    """Reads the stored signals of a set of pieces."""

    def __init__(self, folder: Path, lengths: Sequence[int]) -> None:
        self._lengths = lengths
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._widths: Widths = json.loads((folder / _DONE).read_text(encoding="utf-8"))
        self._files = {name: os.open(folder / f"{name}.f16", os.O_RDONLY) for name in self._widths}

    def batch(self, positions: Sequence[int], tokens: int) -> dict[str, Tensor]:
        """The signals of these pieces, each (B, tokens, W) in float32, zero on padding."""
        found = {}
        for name, width in self._widths.items():
            states = np.zeros((len(positions), tokens, width), dtype=np.float16)
            for row, position in enumerate(positions):
                length = self._lengths[position]
                raw = os.pread(self._files[name], length * width * 2, int(self._starts[position]) * width * 2)
                states[row, :length] = np.frombuffer(raw, dtype=np.float16).reshape(length, width)
            found[name] = torch.from_numpy(states).float()
        return found

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            os.close(file)
        self._files = {}


def states_folder(teacher_digest: str, fingerprint: str, names: Sequence[str], rows: Rows, encoder: Encoder) -> Path:
    """Where the states of these pieces lie, keyed by teacher, data, length rule and signals."""
    key = key_of([teacher_digest, fingerprint, sorted(names), len(rows), encoder.max_length, encoder.long_texts])
    return cache_folder() / "teacher-states" / key[:24]


def is_stored(folder: Path) -> bool:
    """Whether the states there are whole."""
    return (folder / _DONE).is_file()


def store_states(model: Any, names: Sequence[str], rows: Rows, encoder: Encoder, folder: Path, report: Report) -> None:
    """Run the teacher over every piece and write its signals; what is there when it ends is whole."""
    starts = np.concatenate([[0], np.cumsum([len(piece.input_ids) for piece in rows.pieces])])
    token_types = family_of(model.config.model_type).takes_token_types
    taps, files, widths, done = Taps(model, names), {}, {}, 0
    device = next(model.parameters()).device
    model.eval()
    try:
        with guard_disk(folder), torch.inference_mode():
            folder.mkdir(parents=True, exist_ok=True)
            for positions, batch in in_order(rows, encoder):
                model(**batch.to(device).inputs(token_types))
                for name, states in taps.last.items():
                    widths[name] = states.shape[-1]
                    if name not in files:
                        files[name] = os.open(folder / f"{name}.f16", os.O_WRONLY | os.O_CREAT)
                    halves = states.to(torch.float16).cpu().numpy()
                    for row, position in enumerate(positions):
                        length = len(rows.pieces[position].input_ids)
                        raw = np.ascontiguousarray(halves[row, :length]).tobytes()
                        os.pwrite(files[name], raw, int(starts[position]) * widths[name] * 2)
                done += len(positions)
                report(done, len(rows), "teacher's states")
            part = folder / f"{_DONE}.{os.getpid()}.part"
            part.write_text(json.dumps(widths), encoding="utf-8")
            part.replace(folder / _DONE)
    finally:
        taps.close()
        for file in files.values():
            os.close(file)
