"""Token classification: a tag for every word, such as the names in a sentence; answers are (W, C), a row for a word.

The words of all texts follow one another. A word that was not read, because the text was cut before it, has zeros, and
counts as outside of any entity. Intervals are bootstrapped over texts, because the words of one are not independent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgetf.core.bootstrap import draws, percentile_interval
from edgetf.core.metrics import Floats, Metric
from edgetf.core.spans import OUTSIDE, counts, micro_f1, spans
from edgetf.runtime.words import by_text, words_of
from edgetf.tasks.task import Labels, Said, Task

_APART = re.compile(r"\w+(?:[^\w\s]+\w+)*|[^\w\s]")
Counts = NDArray[np.int64]


def spaced(text: str) -> str:
    """A text with white space between words and punctuation, as data with a tag for each word has it.

    >>> spaced("Ada (1815-1852) of St. James's, London.")
    "Ada ( 1815-1852 ) of St . James's , London ."
    """
    return " ".join(_APART.findall(text))


def tag_numbers(answers: Floats, names: Sequence[str]) -> NDArray[np.int64]:
    """The tag (W,) of every word."""
    read = answers.any(axis=1)
    return np.asarray(np.where(read, answers.argmax(axis=1), list(names).index(OUTSIDE)), dtype=np.int64)


def _rows(numbers: NDArray[np.int64], labels: Labels) -> list[NDArray[np.int64]]:
    """One array of tags a text, as many as its labels."""
    return np.split(numbers, np.cumsum([len(row) for row in labels])[:-1])


def _entities(numbers: NDArray[np.int64], labels: Labels, names: Sequence[str]) -> Counts:
    """Right, predicted and wanted entities of every text, (N, 3)."""
    rows = zip(_rows(numbers, labels), labels, strict=True)
    return np.array([counts([names[k] for k in ours], [names[k] for k in wanted]) for ours, wanted in rows])


def _drawn(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of the counts (N, K) of the texts of every draw, (D, K)."""
    times = np.stack([np.bincount(rows, minlength=len(found)) for rows in draws(len(found))])
    return np.asarray(times @ found)


def _share(name: str, hits: NDArray[np.bool_], labels: Labels) -> Metric:
    """The share of words (W,) that are right; n is the number of words."""
    found = np.array([[row.sum(), len(row)] for row in _rows(hits.astype(np.int64), labels)])
    drawn = _drawn(found)
    ci95 = percentile_interval(drawn[:, 0] / np.maximum(drawn[:, 1], 1))
    return Metric(name, float(hits.mean()), n=len(hits), ci95=ci95)


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def compare(answers: Floats, teacher: Floats, labels: Labels, names: Sequence[str]) -> list[Metric]:
    """Micro F1 of whole entities, its drop against the teacher, and the share of words with the right tag."""
    ours, theirs = tag_numbers(answers, names), tag_numbers(teacher, names)
    wanted = np.concatenate([np.asarray(row, dtype=np.int64) for row in labels])
    mine, other = (_entities(numbers, labels, names) for numbers in (ours, theirs))
    f1, reference = float(micro_f1(mine.sum(axis=0))), float(micro_f1(other.sum(axis=0)))
    drawn, drawn_reference = micro_f1(_drawn(mine)), micro_f1(_drawn(other))
    n = len(labels)
    return [
        Metric("f1", _defined(f1), n=n, ci95=percentile_interval(drawn)),
        Metric("f1_drop", _defined(reference - f1), n=n, ci95=percentile_interval(drawn_reference - drawn)),
        _share("token_accuracy", ours == wanted, labels),
        _share("agreement", ours == theirs, labels),
    ]


def floor(teacher: Floats, labels: Labels, names: Sequence[str]) -> str | None:
    """The teacher must tag more words right than the most frequent tag would, surely."""
    wanted = np.concatenate([np.asarray(row, dtype=np.int64) for row in labels])
    most = int(np.bincount(wanted).argmax())
    hits = tag_numbers(teacher, names) == wanted
    gain = np.array([[row.sum()] for row in _rows(hits.astype(np.int64) - (wanted == most), labels)])
    found = percentile_interval(_drawn(gain)[:, 0].astype(float))
    if found is not None and found[0] > 0:
        return None
    return (
        f"baseline: the teacher tags {hits.mean():.3f} of {len(wanted)} words right, which does not beat the tag "
        f"{names[most]} everywhere ({np.mean(wanted == most):.3f}), so a comparison with it means nothing"
    )


def score(answers: Floats, labels: Labels, names: Sequence[str]) -> float:
    """Micro F1; 0 where neither side has an entity."""
    found = _entities(tag_numbers(answers, names), labels, names).sum(axis=0)
    return float(np.nan_to_num(micro_f1(found)))


def say(texts: Sequence[str], answers: Floats, names: Sequence[str]) -> list[Said]:
    """The entities of every text."""
    said = []
    for text, rows in zip(texts, by_text(answers, texts), strict=True):
        words, tags = words_of(text), [names[k] for k in tag_numbers(rows, names)]
        entities = [
            {"type": kind, "text": " ".join(words[first:end]), "first_word": first, "words": end - first}
            for kind, first, end in spans(tags)
        ]
        shown = ", ".join(f"{entity['type']}: {entity['text']}" for entity in entities) or "no entity"
        said.append(Said({"text": text, "words": words, "tags": tags, "entities": entities}, f"{shown}  |  {text}"))
    return said


TASK = Task(
    headline="f1",
    unit="fraction",
    drop="f1_drop",
    output="logits",
    pipeline_tag="token-classification",
    answers="tags",
    labels=lambda found: found,
    compare=compare,
    floor=floor,
    score=score,
    say=say,
    prepare=spaced,
    pairs=False,
    dev_wilson=False,
)
