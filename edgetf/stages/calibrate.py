"""Calibration rows as a graph takes them: one text after the other, none kept."""

from __future__ import annotations

from collections.abc import Iterator

from edgetf.data.dataset import Split
from edgetf.formats.quantization import Feed, Feeds
from edgetf.runtime.backend import fitting_length
from edgetf.runtime.encoder import Encoder

CHUNK = 64  # texts that are tokenized at once


def feeds_of(rows: Split, encoder: Encoder, names: tuple[str, ...], lengths: tuple[int, ...] | None) -> Feeds:
    """Every piece of every row as named inputs (1, T), T as an app would pad it: for a file of any length, not at all.

    Padding takes part in no answer; that of a file with fixed lengths is calibrated too, because it is computed.
    """

    def feeds() -> Iterator[Feed]:
        for start in range(0, len(rows), CHUNK):
            chunk = rows.select(list(range(start, min(start + CHUNK, len(rows)))))
            for pieces in encoder.pieces(chunk.texts, chunk.pairs):
                for piece in pieces:
                    yield encoder.batch([piece], fitting_length(lengths, len(piece.input_ids))).named(names)

    return feeds
