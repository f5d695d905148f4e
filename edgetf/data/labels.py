"""Labels of a task, from the words of a file to what a model learns: a class, a number, or a tag for each word."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from typing_extensions import assert_never

from edgetf.core.errors import DataError
from edgetf.core.spans import OUTSIDE
from edgetf.core.task_names import TaskName
from edgetf.runtime.words import words_of
from edgetf.tasks import regression

MIN_ROWS_PER_CLASS = 3
NO_LABEL = -100  # of a text that only the teacher has an opinion on; torch's cross-entropy leaves it out
Label = Any  # int, float, or a list of int, as the task has it


def read_labels(task: TaskName, words: Sequence[Any], known: list[str] | None = None) -> tuple[list[Label], list[str]]:
    """The labels of a source, from a word each (or a list of tags), and the names of the classes.

    `known` are those of the training rows.

    Raises:
        DataError: labels that the task cannot have.
    """
    match task:
        case "sequence_classification":
            return _classes(words, known)
        case "regression":
            return _numbers(words), [regression.OUTPUT]
        case "sentence_embeddings":
            return [NO_LABEL] * len(words), []
        case "token_classification":
            return _tags(words, known)
        case _:
            assert_never(task)


def unknown(task: TaskName, text: str) -> Label:
    """The label of a text that has none."""
    match task:
        case "sequence_classification" | "sentence_embeddings":
            return NO_LABEL
        case "regression":
            return math.nan
        case "token_classification":
            return [NO_LABEL] * len(words_of(text))
        case _:
            assert_never(task)


def strata(task: TaskName, labels: Sequence[Label], names: Sequence[str]) -> list[int]:
    """The group of each row that every split gets its share of.

    Raises:
        DataError: a class has too few rows.
    """
    match task:
        case "sequence_classification":
            counts = Counter(labels)
            rare = min(counts[k] for k in range(len(names)))
            if rare < MIN_ROWS_PER_CLASS:
                raise DataError(
                    f"data: a class has {rare} rows, needed are {MIN_ROWS_PER_CLASS} or more; add rows or drop it"
                )
            return list(labels)
        case "regression" | "sentence_embeddings" | "token_classification":
            if len(labels) < MIN_ROWS_PER_CLASS:
                raise DataError(f"data: there are {len(labels)} rows, needed are {MIN_ROWS_PER_CLASS} or more")
            return [0] * len(labels)
        case _:
            assert_never(task)


def _classes(words: Sequence[str], known: list[str] | None) -> tuple[list[Label], list[str]]:
    names = known or sorted(set(words), key=_label_order)
    strange = sorted(set(words) - set(names))
    if strange:
        raise DataError(f"data.label: class {strange[0]!r} of the dev or test rows is not in the training rows")
    if len(names) < 2:
        raise DataError(f"data.label: one class only ({names[0]!r}); a classifier needs two or more")
    number = {name: k for k, name in enumerate(names)}
    return [number[word] for word in words], names


def _label_order(name: str) -> tuple[int, float, str]:
    """Numbers by value, then words by the alphabet."""
    number = _number(name)
    return (0, number, name) if math.isfinite(number) else (1, 0.0, name)


def _tags(rows: Sequence[list[str]], known: list[str] | None) -> tuple[list[Label], list[str]]:
    """Outside comes first, then the types by the alphabet."""
    found = {tag for row in rows for tag in row} - {OUTSIDE}
    names = known or [OUTSIDE, *sorted(found, key=lambda tag: (tag[2:], tag))]
    strange = sorted(found - set(names))
    if strange:
        raise DataError(f"data.label: tag {strange[0]} of the dev or test rows is not in the training rows")
    if len(names) < 2:
        raise DataError(f"data.label: every tag is {OUTSIDE}; there is nothing to find")
    number = {name: k for k, name in enumerate(names)}
    return [[number[tag] for tag in row] for row in rows], names


def _numbers(words: Sequence[str]) -> list[Label]:
    numbers = [_number(word) for word in words]
    wrong = [word for word, number in zip(words, numbers, strict=True) if not math.isfinite(number)]
    if wrong:
        raise DataError(
            f"data.label: {len(wrong)} of {len(words)} labels are no finite number, e.g. {wrong[0][:40]!r}; "
            "regression learns numbers"
        )
    if len(set(numbers)) < 2:
        raise DataError(f"data.label: every label is {words[0]}; there is nothing to learn")
    return numbers


def _number(word: str) -> float:
    """NaN for what is no number."""
    try:
        return float(word)
    except ValueError:
        return math.nan
