"""Regression: one number for a text or a pair, such as the similarity of two sentences; answers are (N, 1).

Correlations say whether texts are put in the right order and at the right distances; the mean square error also whether
the numbers themselves are right. Intervals are bootstrapped over rows, those of a drop over pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgetf.core.bootstrap import Indices, interval
from edgetf.core.correlation import pearson, spearman
from edgetf.core.metrics import Floats, Metric
from edgetf.tasks.task import Labels, Said, Task

OUTPUT = "score"  # the name of the only output
UNIT = "correlation"
Statistic = Callable[[Floats, Floats], float]


def mse(predicted: Floats, labels: Floats) -> float:
    """Mean square error of two (N,) columns.

    >>> mse(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    2.0
    """
    return float(np.mean((predicted - labels) ** 2)) if len(labels) else float("nan")


def rmse(predicted: Floats, labels: Floats) -> float:
    """Root of the mean square error."""
    return float(np.sqrt(mse(predicted, labels)))


def _metric(name: str, unit: str, statistic: Statistic, predicted: Floats, labels: Floats) -> Metric:
    value, n = statistic(predicted, labels), len(labels)
    found = interval(lambda rows: statistic(predicted[rows], labels[rows]), n)
    return Metric(name, value if np.isfinite(value) else None, unit, n, found)


def pearson_drop(predicted: Floats, teacher: Floats, labels: Floats) -> Metric:
    """The teacher's correlation with the labels less that of the model, three (N,) columns of the same rows."""

    def drop(rows: Indices) -> float:
        return pearson(teacher[rows], labels[rows]) - pearson(predicted[rows], labels[rows])

    n = len(labels)
    value = drop(np.arange(n))
    return Metric("pearson_drop", value if np.isfinite(value) else None, UNIT, n, interval(drop, n))


def compare(answers: Floats, teacher: Floats, labels: Labels, names: Sequence[str]) -> list[Metric]:
    """Correlations and errors of a model against the labels, and what it lost of its teacher's correlation."""
    predicted, wanted = answers[:, 0], np.asarray(labels, dtype=np.float64)
    return [
        _metric("pearson", UNIT, pearson, predicted, wanted),
        pearson_drop(predicted, teacher[:, 0], wanted),
        _metric("spearman", UNIT, spearman, predicted, wanted),
        _metric("mse", "label²", mse, predicted, wanted),
        _metric("rmse", "label", rmse, predicted, wanted),
    ]


def floor(teacher: Floats, labels: Labels, names: Sequence[str]) -> str | None:
    """The teacher must beat the mean of the labels, by a mean square error whose gain is surely over 0."""
    wanted = np.asarray(labels, dtype=np.float64)
    gain = (wanted - wanted.mean()) ** 2 - (teacher[:, 0] - wanted) ** 2
    found = interval(lambda rows: float(gain[rows].mean()), len(wanted))
    if found is not None and found[0] > 0:
        return None
    return (
        f"baseline: the teacher's mean square error {mse(teacher[:, 0], wanted):.4g} does not beat that of the labels' "
        f"mean ({wanted.var():.4g}) on {len(wanted)} rows, so a comparison with it means nothing"
    )


def score(answers: Floats, labels: Labels, names: Sequence[str]) -> float:
    """Pearson's correlation; 0 where it is not defined."""
    return float(np.nan_to_num(pearson(answers[:, 0], np.asarray(labels, dtype=np.float64))))


def say(texts: Sequence[str], answers: Floats, names: Sequence[str]) -> list[Said]:
    """The number of every text."""
    values = [float(value) for value in answers[:, 0]]
    return [
        Said({"text": text, OUTPUT: round(value, 6)}, f"{value:.3f}  {text}")
        for text, value in zip(texts, values, strict=True)
    ]


TASK = Task(
    headline="pearson",
    unit=UNIT,
    drop="pearson_drop",
    output="logits",
    pipeline_tag="text-classification",
    answers="number",
    labels=lambda found: np.asarray(found, dtype=np.float64),
    compare=compare,
    floor=floor,
    score=score,
    say=say,
)
