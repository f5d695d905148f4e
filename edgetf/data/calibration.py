"""Rows for calibration: few, but of every class and length, and none that evaluates."""

from __future__ import annotations

import random

from edgetf.config.data import DataConfig
from edgetf.config.quantization import CalibrationConfig
from edgetf.core.task_names import TaskName
from edgetf.data.dataset import Dataset, Split, read_rows, refuse_leaks
from edgetf.data.labels import strata, unknown

LENGTHS = 4  # strata of equal size, from short to long


def calibration_rows(config: CalibrationConfig, data: Dataset, source: DataConfig, task: TaskName, seed: int) -> Split:
    """So many rows, an equal share of each class and, inside a class, of each quarter of the lengths.

    They come from the training rows or, where the recipe names a source, from there.

    Raises:
        DataError: the source has no rows, or some that stand in the dev or the evaluation rows.
    """
    if config.source is None:
        rows, groups = data.train, strata(task, data.train.labels, data.label_names)
    else:
        texts, pairs, _ = read_rows(source, config.source, task, labelled=False)
        rows = Split(texts, pairs, [unknown(task, text) for text in texts])
        groups = [0] * len(rows)
    refuse_leaks(rows, data.dev, "calibration", "dev")
    refuse_leaks(rows, data.test, "calibration")
    return rows.select(sample(groups, [len(text) for text in rows.texts], config.rows, seed))


def sample(groups: list[int], lengths: list[int], count: int, seed: int) -> list[int]:
    """Positions of `count` rows, or of all: groups, and quarters of length in a group, get the share that they have.

    >>> groups, lengths = [0] * 40 + [1] * 40, list(range(80))
    >>> chosen = sample(groups, lengths, 8, seed=0)
    >>> [k // 10 for k in chosen]
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    rng, cells = random.Random(seed), []
    for group in sorted(set(groups)):
        mine = sorted((k for k in range(len(groups)) if groups[k] == group), key=lambda k: (lengths[k], k))
        cells += [mine[len(mine) * q // LENGTHS : len(mine) * (q + 1) // LENGTHS] for q in range(LENGTHS)]
    wanted = _shares([len(cell) for cell in cells], min(count, len(groups)))
    return sorted(k for cell, share in zip(cells, wanted, strict=True) for k in rng.sample(cell, share))


def _shares(sizes: list[int], count: int) -> list[int]:
    """`count` shared out by size, what is left over to the largest remainders.

    >>> _shares([5, 3, 2], 5)
    [3, 1, 1]
    """
    exact = [size * count / sum(sizes) for size in sizes]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda k: (shares[k] - exact[k], k))
    for k in by_remainder[: count - sum(shares)]:
        shares[k] += 1
    return shares
