"""Numbers with their unit, sample size and 95 % interval, and the paired tests between two models.

Sources: Wilson 1927 (interval of a proportion); McNemar 1947 in its exact binomial form; Agresti & Min 2005
(interval of a difference of paired proportions: half a pseudo-row in each of the four cells).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.bootstrap import block_draws

Z95 = 1.959963984540054
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One measured number. `unit` is "fraction" (0 to 1) unless the name says otherwise."""

    name: str
    value: float | None
    unit: str = "fraction"
    n: int = 0
    ci95: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        record["ci95"] = list(self.ci95) if self.ci95 else None
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Metric:
        ci = record.get("ci95")
        return cls(record["name"], record["value"], record["unit"], record["n"], (ci[0], ci[1]) if ci else None)


def find_metric(metrics: Sequence[Metric], name: str) -> Metric | None:
    """The metric of that name, or None."""
    return next((metric for metric in metrics if metric.name == name), None)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion of `hits` in `n`.

    >>> [round(x, 4) for x in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if n == 0:
        return (0.0, 1.0)
    p, z2 = hits / n, Z95 * Z95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the formula gives 0 and 1 but for rounding, and an interval must hold its value.
    return (0.0 if hits == 0 else max(0.0, centre - half), 1.0 if hits == n else min(1.0, centre + half))


def proportion(name: str, correct: NDArray[np.bool_]) -> Metric:
    """The share of True, shape (N,), with its Wilson interval."""
    n, hits = int(correct.size), int(correct.sum())
    return Metric(name, hits / n if n else None, n=n, ci95=wilson(hits, n))


def macro_f1(predicted: Labels, labels: Labels, classes: int) -> Metric:
    """Unweighted mean of the F1 of each class that occurs; both arrays have shape (N,).

    >>> macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 2).value
    0.7333333333333334
    """
    scores = []
    for k in range(classes):
        hits = int(((predicted == k) & (labels == k)).sum())
        total = int((predicted == k).sum() + (labels == k).sum())
        if total:
            scores.append(2 * hits / total)
    return Metric("macro_f1", float(np.mean(scores)) if scores else None, n=int(labels.size))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value for the rows that just one of two models gets right.

    >>> mcnemar(0, 0)
    1.0
    >>> round(mcnemar(1, 9), 4)
    0.0215
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    # logarithms of binomial terms: exact integers grow too large for thousands of rows
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(fewer + 1)]
    highest = max(logs)
    tail = math.log(math.fsum(math.exp(value - highest) for value in logs)) + highest
    return min(1.0, 2.0 * math.exp(tail - n * math.log(2)))


def accuracy_drop(reference: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> Metric:
    """Accuracy of the reference minus that of the candidate on the same rows, arrays of shape (N,)."""
    n = int(reference.size)
    b = int((reference & ~candidate).sum())
    c = int((~reference & candidate).sum())
    if n == 0:
        return Metric("accuracy_drop", None)
    # Agresti & Min: half a pseudo-row per cell keeps the interval honest where b and c are 0.
    m, b1, c1 = n + 2, b + 0.5, c + 0.5
    middle = (b1 - c1) / m
    half = Z95 * math.sqrt(max(0.0, (b1 + c1) - (b1 - c1) ** 2 / m)) / m
    return Metric("accuracy_drop", (b - c) / n, n=n, ci95=(middle - half, middle + half))


def compare_with_teacher(predicted: Labels, teacher: Labels, labels: Labels, classes: int) -> list[Metric]:
    """Every classification metric of a model against its teacher; three arrays of shape (N,)."""
    right, teacher_right = predicted == labels, teacher == labels
    p = mcnemar(int((teacher_right & ~right).sum()), int((~teacher_right & right).sum()))
    return [
        proportion("accuracy", right),
        accuracy_drop(teacher_right, right),
        proportion("agreement", predicted == teacher),
        macro_f1(predicted, labels, classes),
        Metric("mcnemar_p", p, unit="probability", n=int(labels.size)),
    ]


def percentile(samples: Sequence[float], q: float) -> float:
    """The q-th percentile (0 to 100) of the samples."""
    return float(np.percentile(np.asarray(samples, dtype=np.float64), q))


def ratio_interval(over: Sequence[float], under: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of median(over) / median(under), turns of one interleaved run drawn together."""
    a, b = np.asarray(over), np.asarray(under)
    n = min(len(a), len(b))
    drawn = block_draws(n, seed)
    ratios = np.median(a[:n][drawn], axis=1) / np.median(b[:n][drawn], axis=1)
    return (float(np.percentile(ratios, 2.5)), float(np.percentile(ratios, 97.5)))


def percentile_interval(samples: Sequence[float], q: float, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the q-th percentile of timings that were taken one after the other."""
    found = np.percentile(np.asarray(samples)[block_draws(len(samples), seed)], q, axis=1)
    return (float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5)))


def softmax(logits: Floats) -> Floats:
    """Row-wise softmax of (N, C)."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def stacked(rows: Sequence[Any]) -> Floats:
    """The numbers of every row, as JSON holds them, as one array: (N, C), also where a row holds several lists of C.

    >>> stacked([[[1, 2], [3, 4]], [[5, 6]]]).shape, stacked([[1, 2]]).shape
    ((3, 2), (1, 2))
    """
    arrays = [np.asarray(row, dtype=np.float64) for row in rows]
    return np.concatenate(arrays) if arrays and arrays[0].ndim == 2 else np.asarray(arrays, dtype=np.float64)


def cosine(a: Floats, b: Floats) -> Floats:
    """Row-wise cosine of two (N, C) arrays, shape (N,)."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(axis=-1) / np.maximum(norms, 1e-12))
