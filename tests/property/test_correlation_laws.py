"""Laws of correlations: their range, what leaves them as they are, and what they are of each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgetf.core.correlation import pearson, ranks, spearman

COLUMN = st.lists(st.integers(-50, 50).map(float), min_size=3, max_size=30)


@st.composite
def columns(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    first = np.array(draw(COLUMN))
    second = np.array(draw(st.lists(st.integers(-50, 50).map(float), min_size=len(first), max_size=len(first))))
    assume(np.ptp(first) > 0 and np.ptp(second) > 0)
    return first, second


@given(columns())
def test_range_and_symmetry(both: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = both
    for correlation in (pearson, spearman):
        assert -1 <= correlation(a, b) <= 1
        assert correlation(a, b) == pytest.approx(correlation(b, a), abs=1e-12)
        assert correlation(a, a) == pytest.approx(1)


@given(columns(), st.floats(0.1, 10), st.floats(-10, 10))
def test_a_line_changes_nothing(both: tuple[np.ndarray, np.ndarray], slope: float, shift: float) -> None:
    a, b = both
    assert pearson(slope * a + shift, b) == pytest.approx(pearson(a, b), abs=1e-9)
    assert pearson(-a, b) == pytest.approx(-pearson(a, b), abs=1e-12)


@given(columns())
def test_ranks_see_the_order_only(both: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = both
    assert spearman(a**3, b) == pytest.approx(spearman(a, b), abs=1e-12)


@given(COLUMN)
def test_ranks_add_up(values: list[float]) -> None:
    n = len(values)
    assert ranks(np.array(values)).sum() == n * (n + 1) / 2
