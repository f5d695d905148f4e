"""What a training takes its batches from: rows of labelled texts, or packed sequences of running text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

import torch
from typing_extensions import Self


class Batch(Protocol):
    """Some rows as tensors."""

    def __len__(self) -> int:
        """Rows."""
        ...

    def part(self, index: int, count: int) -> Self:
        """Every `count`-th row from `index` on: those of one of `count` processes."""
        ...

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        ...


B = TypeVar("B", bound=Batch)
B_co = TypeVar("B_co", bound=Batch, covariant=True)


class Order(Protocol):
    """The positions of the rows of every batch of an epoch; the same epoch has the same ones."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0."""
        ...

    def __len__(self) -> int:
        """Batches of an epoch."""
        ...

    def __iter__(self) -> Iterator[list[int]]: ...


class Material(Protocol[B_co]):
    """Rows to learn from."""

    def order(self, batch_size: int, seed: int) -> Order:
        """How they follow one another."""
        ...

    def batch(self, positions: list[int]) -> B_co:
        """The rows at these positions."""
        ...
