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
    rng, names = random.Random(seed), sorted(set(groups))
    members = [sorted((k for k in range(len(groups)) if groups[k] == name), key=lambda k: lengths[k]) for name in names]
    chosen: list[int] = []
    for mine, wanted in zip(members, _shares([len(mine) for mine in members], min(count, len(groups))), strict=True):
        cells = [mine[len(mine) * q // LENGTHS : len(mine) * (q + 1) // LENGTHS] for q in range(LENGTHS)]
        for cell, share in zip(cells, _shares([len(cell) for cell in cells], wanted), strict=True):
            chosen += rng.sample(cell, share)
    return sorted(chosen)


def _shares(sizes: list[int], count: int) -> list[int]:
    """`count`, no more than there is, shared out by size; none goes without that need not.

    >>> _shares([5, 3, 2], 5), _shares([97, 2, 1], 10), _shares([9, 1], 1)
    ([3, 1, 1], [8, 1, 1], [1, 0])
    """
    least = 1 if count >= len(sizes) else 0
    exact = [size * count / sum(sizes) for size in sizes]
    shares = [max(int(share), min(least, size)) for share, size in zip(exact, sizes, strict=True)]
    every = range(len(sizes))
    while sum(shares) < count:
        shares[max(every, key=lambda k: (shares[k] < sizes[k], exact[k] - shares[k]))] += 1
    while sum(shares) > count:
        shares[max(every, key=lambda k: (shares[k] > least, shares[k] - exact[k]))] -= 1
    return shares
