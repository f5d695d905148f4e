"""Laws of every chosen range, whatever the values."""

from __future__ import annotations

from typing import get_args

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgetf.algorithms.observers import _FACTORS, NARROW, Floats, Range, chosen_range, squared_error
from edgetf.core.schemes import CalibrationMethod

METHODS = st.sampled_from(get_args(CalibrationMethod))
LEVELS = st.sampled_from([16, 256, 65_536])
VALUES = arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False))


def seen(values: Floats, bins: int = 64) -> tuple[Floats, float, float]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    ends = (low, high) if high - low > NARROW else (0.0, 1.0)
    return np.histogram(values, bins, ends)[0].astype(float), low, high


def within(inner: Range, outer: Range) -> bool:
    return outer[0] <= inner[0] <= 0.0 <= inner[1] <= outer[1]


@given(VALUES, METHODS, LEVELS)
@settings(deadline=None)
def test_the_range_lies_within_what_was_seen_and_holds_zero(
    values: Floats, method: CalibrationMethod, levels: int
) -> None:
    counts, low, high = seen(values)
    assert within(chosen_range(counts, low, high, method, levels), (low, high))


@given(VALUES)
def test_min_max_never_clips(values: Floats) -> None:
    low, high = chosen_range(*seen(values), "min_max")
    assert low <= values.min() and values.max() <= high


@given(VALUES, METHODS, st.sampled_from([2.0**-12, 0.5, 2.0, 2.0**10]))
@settings(deadline=None)
def test_the_range_grows_with_the_values(values: Floats, method: CalibrationMethod, factor: float) -> None:
    counts, low, high = seen(values)
    if high - low <= 2**13 * NARROW:  # which the factor may make too narrow
        return
    once = chosen_range(counts, low, high, method)
    scaled = chosen_range(counts, low * factor, high * factor, method)
    np.testing.assert_allclose(scaled, np.multiply(once, factor), rtol=1e-9)


@given(VALUES, METHODS, st.integers(2, 9))
@settings(deadline=None)
def test_seeing_everything_again_changes_nothing(values: Floats, method: CalibrationMethod, often: int) -> None:
    counts, low, high = seen(values)
    np.testing.assert_allclose(
        chosen_range(counts * often, low, high, method), chosen_range(counts, low, high, method), rtol=1e-9
    )


@given(VALUES, st.sampled_from([16, 256]))
@settings(deadline=None)
def test_no_candidate_beats_mse(values: Floats, levels: int) -> None:
    counts, low, high = seen(values)
    if high - low <= NARROW:
        return
    chosen = squared_error(counts, low, high, chosen_range(counts, low, high, "mse", levels), levels)
    assert chosen <= min(squared_error(counts, low, high, (low * f, high * f), levels) for f in _FACTORS)
