"""Entities are read from tags as the evaluation of CoNLL-2003 reads them, and counted whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgetf.core.spans import counts, micro_f1, spans


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("", []),
        ("O O", []),
        ("B-PER", [("PER", 0, 1)]),
        ("B-PER I-PER I-PER O", [("PER", 0, 3)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("I-PER I-PER O I-PER", [("PER", 0, 2), ("PER", 3, 4)]),
        ("I-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("O I-LOC I-PER", [("LOC", 1, 2), ("PER", 2, 3)]),
        ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
        ("B-WORK-OF-ART I-WORK-OF-ART", [("WORK-OF-ART", 0, 2)]),
    ],
)
def test_spans(tags: str, wanted: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == wanted


@pytest.mark.parametrize(
    ("predicted", "there", "wanted"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", (1, 1, 1)),
        ("B-PER O O", "B-PER I-PER O", (0, 1, 1)),  # its end is wrong
        ("B-LOC I-LOC O", "B-PER I-PER O", (0, 1, 1)),  # its type is wrong
        ("I-PER I-PER O", "B-PER I-PER O", (1, 1, 1)),
        ("O O B-LOC", "B-PER I-PER B-LOC", (1, 1, 2)),
        ("O O O", "O O O", (0, 0, 0)),
    ],
)
def test_counts(predicted: str, there: str, wanted: tuple[int, int, int]) -> None:
    assert counts(predicted.split(), there.split()) == wanted


def test_f1_over_several_rows() -> None:
    """Two of three predicted entities are right, of four: precision 2/3, recall 1/2."""
    found = np.array([[1, 2, 1], [1, 1, 3]])
    assert float(micro_f1(found.sum(axis=0))) == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert micro_f1(found).tolist() == pytest.approx([2 / 3, 0.5])


def test_without_entities_there_is_no_f1() -> None:
    assert math.isnan(float(micro_f1(np.array([0, 0, 0]))))
