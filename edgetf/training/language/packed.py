"""Packed sequences as a training takes them: so many steps, each pass over them in another order.

What the loop calls an epoch is here the batches between two evaluations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgetf.config.language.stages import StepsConfig
from edgetf.config.training import TrainingConfig
from edgetf.data.corpus.blocks import Blocks

EVALUATIONS = 5  # of a training that does not say how often
MOST_EVALUATIONS = 1000


@dataclass
class BlockBatch:
    """Tokens (B, T) int64 of some blocks, and their positions (B,) among all."""

    ids: Tensor
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def part(self, index: int, count: int) -> BlockBatch:
        """Every `count`-th block from `index` on."""
        return BlockBatch(self.ids[index::count], self.positions[index::count])

    def to(self, device: torch.device) -> BlockBatch:
        """The same on a device."""
        return BlockBatch(self.ids.to(device), self.positions.to(device))


@dataclass(frozen=True)
class Packed:
    """Blocks (N, T) to learn from, with so many batches of them between two evaluations."""

    blocks: Blocks
    batches: int

    def order(self, batch_size: int, seed: int) -> StepOrder:
        """Pass after pass, each shuffled anew."""
        return StepOrder(len(self.blocks), batch_size, seed, self.batches)

    def batch(self, positions: list[int]) -> BlockBatch:
        """The blocks at these positions."""
        return BlockBatch(torch.from_numpy(self.blocks[positions].astype(np.int64)), torch.tensor(positions))


class StepOrder:
    """The positions of every batch; a batch may hold the last blocks of one pass and the first of the next."""

    def __init__(self, blocks: int, batch_size: int, seed: int, batches: int) -> None:
        self._blocks, self._size, self._seed, self._batches = blocks, batch_size, seed, batches
        self._first = 0
        self._passes: dict[int, list[int]] = {}

    def set_epoch(self, epoch: int) -> None:
        """Choose which batches come."""
        self._first = epoch * self._batches

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        return (self._batch(number) for number in range(self._first, self._first + self._batches))

    def _batch(self, number: int) -> list[int]:
        places = range(number * self._size, (number + 1) * self._size)
        return [self._pass(place // self._blocks)[place % self._blocks] for place in places]

    def _pass(self, turn: int) -> list[int]:
        """The order of one pass."""
        if turn not in self._passes:
            order = list(range(self._blocks))
            random.Random(f"{self._seed}/{turn}").shuffle(order)
            self._passes = {turn: order}  # the one before is needed no more
        return self._passes[turn]


def paced(config: StepsConfig) -> tuple[TrainingConfig, int]:
    """The steps as the loop counts them, and the batches between two evaluations.

    >>> loop, batches = paced(StepsConfig(steps=100, gradient_accumulation=2))
    >>> loop.epochs, batches
    (5.0, 40)
    """
    every = config.evaluate_every or math.ceil(config.steps / EVALUATIONS)
    every = min(config.steps, max(every, math.ceil(config.steps / MOST_EVALUATIONS)))
    shared = ("batch_size", "gradient_accumulation", "learning_rate", "weight_decay", "warmup", "max_grad_norm",
              "precision", "threads", "checkpoint_seconds")  # fmt: skip
    settings = {name: getattr(config, name) for name in shared}
    if config.precision == "auto" and not torch.cuda.is_available() and halves_on_processor():
        settings["precision"] = "bf16"
    return TrainingConfig(epochs=config.steps / every, **settings), every * config.gradient_accumulation


def halves_on_processor() -> bool:
    """Whether the processor multiplies in bfloat16; a decoder then learns up to twice as fast as in float32."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


def used(blocks: int, config: StepsConfig, seed: int) -> list[int]:
    """The positions of all blocks that a training comes by, ascending."""
    order = StepOrder(blocks, config.batch_size, seed, config.steps * config.gradient_accumulation)
    return sorted({position for batch in order for position in batch})
