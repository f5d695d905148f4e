"""Sentence embeddings: a vector for a text, answers are (N, H); there are no labels, the teacher is the measure.

Users compare such vectors, so what is measured is whether comparisons come out as the teacher's: the cosines of all
pairs in the same order, and the same text as the nearest. Where both have the same width, the vectors themselves are
compared too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetf.core.bootstrap import draws, interval, percentile_interval
from edgetf.core.correlation import ranks, spearman
from edgetf.core.metrics import Floats, Metric, cosine, proportion
from edgetf.core.metrics import Labels as Numbers
from edgetf.tasks.task import Labels, Said, Task

MOST_ROWS = 1000  # whose pairs are compared: half a million
SPREAD = 1e-3  # standard deviation of a teacher's cosines below which its vectors say nothing
SHOWN = 6  # numbers of a vector in a line of text


def cosines(vectors: Floats) -> Floats:
    """Cosine of every pair of (N, H) vectors, (N, N)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(unit @ unit.T)


def pairs_of(matrix: Floats) -> Floats:
    """What stands above the diagonal of (N, N), (N (N - 1) / 2,)."""
    return np.asarray(matrix[np.triu_indices(len(matrix), k=1)])


def similarity_spearman(ours: Floats, theirs: Floats) -> Metric:
    """Rank correlation of the cosines of all pairs, two (N, N) matrices.

    The interval is a bootstrap of rows in which the ranks stay those of the whole: a pair then counts as often as the
    product of how often its two rows were drawn, and every draw is a few quadratic forms.
    """
    a, b = pairs_of(ours), pairs_of(theirs)
    value, n = spearman(a, b) if len(a) > 1 else float("nan"), len(ours)
    if not np.isfinite(value):
        return Metric("similarity_spearman", None, "correlation", n)
    x, y = (_as_matrix(ranks(column) - (len(column) + 1) / 2, n) for column in (a, b))
    counts = np.stack([np.bincount(drawn, minlength=n) for drawn in draws(n)]).astype(float)  # (D, N)

    def total(matrix: Floats) -> Floats:
        return np.asarray(((counts @ matrix) * counts).sum(axis=1))

    weight, sum_x, sum_y = total(1 - np.eye(n)), total(x), total(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        shared = total(x * y) - sum_x * sum_y / weight
        found = shared / np.sqrt((total(x * x) - sum_x**2 / weight) * (total(y * y) - sum_y**2 / weight))
    return Metric("similarity_spearman", value, "correlation", n, percentile_interval(found))


def _as_matrix(column: Floats, n: int) -> Floats:
    """Values of pairs (N (N - 1) / 2,) at both places of a matrix (N, N) with a diagonal of 0."""
    matrix = np.zeros((n, n))
    matrix[np.triu_indices(n, k=1)] = column
    return matrix + matrix.T


def nearest(matrix: Floats) -> Numbers:
    """The nearest other row of each, (N,), from cosines (N, N)."""
    others = matrix - 4 * np.eye(len(matrix))
    return np.asarray(others.argmax(axis=1), dtype=np.int64)


def compare(answers: Floats, teacher: Floats, labels: Labels, names: Sequence[str]) -> list[Metric]:
    """Whether comparisons of a model's vectors come out as those of its teacher's, on evenly spread rows."""
    n = min(len(answers), MOST_ROWS)
    chosen = [k * len(answers) // n for k in range(n)]
    ours, theirs = cosines(answers[chosen]), cosines(teacher[chosen])
    found = [
        similarity_spearman(ours, theirs),
        proportion("neighbor_agreement", nearest(ours) == nearest(theirs)),
    ]
    if answers.shape == teacher.shape:
        each = cosine(answers, teacher)
        mean = interval(lambda rows: float(each[rows].mean()), len(each))
        found.append(Metric("cosine", float(each.mean()), "cosine", len(each), mean))
    return found


def floor(teacher: Floats, labels: Labels, names: Sequence[str]) -> str | None:
    """The teacher must tell texts apart."""
    spread = float(pairs_of(cosines(teacher[:MOST_ROWS])).std()) if len(teacher) > 2 else 0.0
    if spread > SPREAD:
        return None
    return (
        f"baseline: the teacher's vectors of {len(teacher)} texts are all alike (their cosines scatter by "
        f"{spread:.2g}), so a comparison with it means nothing"
    )


def score(answers: Floats, labels: Labels, names: Sequence[str]) -> float:
    """Rank correlation of the cosines with those of the teacher's vectors, which stand in for labels."""
    ours, theirs = (pairs_of(cosines(vectors[:MOST_ROWS])) for vectors in (answers, np.asarray(labels)))
    return float(np.nan_to_num(spearman(ours, theirs)))


def say(texts: Sequence[str], answers: Floats, names: Sequence[str]) -> list[Said]:
    """The vector of every text, and in words the nearest of the other texts."""
    matrix = cosines(answers)
    said = []
    for row, text in enumerate(texts):
        record = {"text": text, "embedding": [round(float(value), 6) for value in answers[row]]}
        if len(texts) > 1:
            other = int(nearest(matrix)[row])
            said.append(Said(record, f"{matrix[row, other]:.3f}  {text}  ~  {texts[other]}"))
        else:
            shown = " ".join(f"{value:.4f}" for value in answers[row, :SHOWN])
            said.append(Said(record, f"[{shown} …] {answers.shape[1]} numbers  {text}"))
    return said


TASK = Task(
    headline="similarity_spearman",
    unit="correlation",
    drop=None,
    output="embedding",
    pipeline_tag="sentence-similarity",
    answers="vector",
    labels=lambda found: found,
    compare=compare,
    floor=floor,
    score=score,
    say=say,
    pairs=False,
    labelled=False,
    any_width=True,
)
