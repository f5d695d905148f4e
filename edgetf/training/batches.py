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
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.inputs import Piece
from edgetf.runtime.words import starts

WINDOW = 50


@dataclass(frozen=True)
class Rows:
    """Encoded pieces with the label of each and the row of the split it comes from; columns of equal length.

    Where every word has an answer, a piece has the labels of the words that begin in it, and `starts` numbers the first
    word of each row, and all of them at its end.
    """

    pieces: list[Piece]
    labels: list[Label]
    sources: list[int]
    starts: list[int] | None = None

    @property
    def answers(self) -> int:
        """How many answers there are: one a piece, or one a word."""
        return len(self) if self.starts is None else self.starts[-1]

    def answers_of(self, pieces: range) -> range:
        """The numbers of the answers of some pieces that follow one another.

        Of words, up to the first one of the piece behind them, so that those that no piece holds have a place too.
        """
        return range(self._first_answer(pieces.start), self._first_answer(pieces.stop))

    def _first_answer(self, position: int) -> int:
        """The number of the first answer that does not belong to the pieces before a position."""
        if self.starts is None or position == 0:
            return position
        later = (k for k in range(position, len(self)) if self.pieces[k].words)
        first = next(later, None)
        return self.answers if first is None else self.starts[self.sources[first]] + self.pieces[first].words[0][1]

    def __len__(self) -> int:
        return len(self.pieces)


def encode_split(split: Split, encoder: Encoder) -> Rows:
    """Every piece of every row."""
    pieces, labels, sources = [], [], []
    for row, parts in enumerate(encoder.pieces(split.texts, split.pairs)):
        for piece in parts:
            pieces.append(piece)
            label = split.labels[row]
            labels.append([label[word] for _, word in piece.words] if encoder.by_word else label)
            sources.append(row)
    return Rows(pieces, labels, sources, starts(split.texts) if encoder.by_word else None)


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
    """Three (B, T) int64 tensors, labels (N,) and numbers (N,) of the answers, and the positions (B,) of the pieces.

    An answer is one a piece, and its number the piece's position; or one a word, and `words` (N, 2) holds the row and
    the token that each begins with. Elsewhere that is empty.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    numbers: Tensor
    positions: Tensor
    words: Tensor

    def answers(self, outputs: Tensor) -> Tensor:
        """What a model answers, (N, C): its outputs (B, C), or of (B, T, C) those of the words' first tokens."""
        return outputs if outputs.dim() == 2 else outputs[self.words[:, 0], self.words[:, 1]]

    def __len__(self) -> int:
        return len(self.positions)

    def inputs(self, token_types: bool) -> dict[str, Tensor]:
        """The arguments of a Hugging Face model."""
        named = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return {**named, "token_type_ids": self.token_type_ids} if token_types else named

    def part(self, index: int, count: int) -> TensorBatch:
        """Every `count`-th row from `index` on, with its answers; padding stays as it is."""
        parts = {name: tensor[index::count] for name, tensor in vars(self).items()}
        if len(self.words):
            mine = self.words[:, 0] % count == index
            parts |= {"labels": self.labels[mine], "numbers": self.numbers[mine], "words": self.words[mine]}
            parts["words"] = torch.stack([parts["words"][:, 0] // count, parts["words"][:, 1]], dim=1)
        return TensorBatch(**parts)

    def to(self, device: torch.device) -> TensorBatch:
        """The same on a device."""
        return TensorBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class Collator:
    """Positions to padded tensors."""

    def __init__(self, rows: Rows, encoder: Encoder) -> None:
        self._rows, self._encoder = rows, encoder

    def __call__(self, positions: list[int]) -> dict[str, Tensor]:
        batch = self._encoder.batch([self._rows.pieces[k] for k in positions])
        labels = [self._rows.labels[k] for k in positions]
        numbers = list(positions)
        words: list[tuple[int, int]] = []
        if self._rows.starts is not None:
            labels = [label for row in labels for label in row]
            numbers, words = self._words(positions, self._rows.starts)
        return {
            "input_ids": torch.from_numpy(batch.input_ids),
            "attention_mask": torch.from_numpy(batch.attention_mask),
            "token_type_ids": torch.from_numpy(batch.token_type_ids),
            "labels": torch.tensor(labels) if labels else torch.empty(0, dtype=torch.long),
            "numbers": torch.tensor(numbers, dtype=torch.long),
            "positions": torch.tensor(positions),
            "words": torch.tensor(words, dtype=torch.long).view(-1, 2),
        }

    def _words(self, positions: list[int], starts: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """The words that begin in these pieces: their numbers among all words, and each one's row and token."""
        rows, numbers, words = self._rows, [], []
        for row, k in enumerate(positions):
            for token, word in rows.pieces[k].words:
                numbers.append(starts[rows.sources[k]] + word)
                words.append((row, token))
        return numbers, words


def in_order(
    rows: Rows, encoder: Encoder, only: Sequence[int] | None = None, batch_size: int = 32
) -> Iterator[tuple[list[int], TensorBatch]]:
    """Every piece once (or `only` those), longest last, with the positions of each batch: for inference."""
    order = sorted(range(len(rows)) if only is None else only, key=lambda k: len(rows.pieces[k].input_ids))
    collate = Collator(rows, encoder)
    for start in range(0, len(order), batch_size):
        positions = order[start : start + batch_size]
        yield positions, TensorBatch(**collate(positions))


@dataclass(frozen=True)
class Encoded:
    """Encoded rows as a training takes them."""

    rows: Rows
    encoder: Encoder

    def order(self, batch_size: int, seed: int) -> BucketSampler:
        """Batches of like length."""
        return BucketSampler(self.rows, batch_size, seed)

    def batch(self, positions: list[int]) -> TensorBatch:
        """The pieces at these positions, padded."""
        return TensorBatch(**Collator(self.rows, self.encoder)(positions))
