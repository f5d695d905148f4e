"""Encoded rows in batches of like length, in an order that a seed and an epoch fix.

Rows are shuffled, cut into windows of 50 batches, sorted by length inside a window, and the batches are shuffled
again: little padding, and still a random order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgetf.data.dataset import Split
from edgetf.data.labels import Label
from edgetf.runtime.encoder import Encoder, Piece

WINDOW = 50


@dataclass(frozen=True)
class Rows:
    """Encoded pieces with the label of each and the row of the split it comes from; columns of equal length."""

    pieces: list[Piece]
    labels: list[Label]
    sources: list[int]

    def __len__(self) -> int:
        return len(self.pieces)


def encode_split(split: Split, encoder: Encoder) -> Rows:
    """Every piece of every row."""
    pieces, labels, sources = [], [], []
    for row, parts in enumerate(encoder.pieces(split.texts, split.pairs)):
        for piece in parts:
            pieces.append(piece)
            labels.append(split.labels[row])
            sources.append(row)
    return Rows(pieces, labels, sources)


class BucketSampler:
    """Batches of positions; call `set_epoch` for another order."""

    def __init__(self, rows: Rows, batch_size: int, seed: int) -> None:
        self._lengths = [len(piece.input_ids) for piece in rows.pieces]
        self.batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return (len(self._lengths) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self._seed}/{self._epoch}")
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        window = WINDOW * self.batch_size
        batches = []
        for start in range(0, len(order), window):
            near = sorted(order[start : start + window], key=lambda row: self._lengths[row])
            batches += [near[k : k + self.batch_size] for k in range(0, len(near), self.batch_size)]
        rng.shuffle(batches)
        return iter(batches)


@dataclass
class TensorBatch:
    """Three (B, T) int64 tensors, the labels (B,), and the positions (B,) of the pieces."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    positions: Tensor

    def inputs(self, token_types: bool) -> dict[str, Tensor]:
        """The arguments of a Hugging Face model."""
        named = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return {**named, "token_type_ids": self.token_type_ids} if token_types else named

    def to(self, device: torch.device) -> TensorBatch:
        """The same on a device."""
        return TensorBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class Collator:
    """Positions to padded tensors."""

    def __init__(self, rows: Rows, encoder: Encoder) -> None:
        self._rows, self._encoder = rows, encoder

    def __call__(self, positions: list[int]) -> dict[str, Tensor]:
        batch = self._encoder.batch([self._rows.pieces[k] for k in positions])
        return {
            "input_ids": torch.from_numpy(batch.input_ids),
            "attention_mask": torch.from_numpy(batch.attention_mask),
            "token_type_ids": torch.from_numpy(batch.token_type_ids),
            "labels": torch.tensor([self._rows.labels[k] for k in positions]),
            "positions": torch.tensor(positions),
        }


def in_order(
    rows: Rows, encoder: Encoder, only: Sequence[int] | None = None, batch_size: int = 32
) -> Iterator[tuple[list[int], TensorBatch]]:
    """Every piece once (or `only` those), longest last, with the positions of each batch: for inference."""
    order = sorted(range(len(rows)) if only is None else only, key=lambda k: len(rows.pieces[k].input_ids))
    collate = Collator(rows, encoder)
    for start in range(0, len(order), batch_size):
        positions = order[start : start + batch_size]
        yield positions, TensorBatch(**collate(positions))
