"""A line through times with the interval that a new time is expected in.

The interval comes from what the fit would have missed: every model is left out in turn, with all lengths that it was
timed at, the rest is fitted, and the left-out times are predicted. Of the errors log(t / t̂), s is the root of their
mean square. A new time lies within

    t̂ · exp(± q · sqrt(s² + r²) · sqrt(1 + h))

in 95 of 100 cases, where r is how much the times of one model scatter from one sitting to another, which errors of a
single sitting do not show, q is Student's quantile for the number of models less one, and h the leverage: near zero
amid what was fitted, and growing with the square of the distance outside it.

Sources: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 7.10 (leaving out); Abramowitz and
Stegun 26.7.5 (Student's quantile).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

from edgetf.predict.fit import Floats

NORMAL = 1.959964  # of 95 %, both sides


def student(freedom: int) -> float:
    """Student's quantile of 95 %, both sides.

    >>> round(student(11), 2), round(student(100), 2)
    (2.2, 1.98)
    """
    z, v = NORMAL, float(freedom)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / v + second / v**2 + third / v**3 + fourth / v**4


def left_out_errors(groups: Sequence[str], times: Floats, fit: Callable[[Floats], Floats]) -> Floats:
    """log(t / t̂) of every time, (N,), predicted by `fit(kept)` for all N from the rows `kept` (N,) alone."""
    names = np.asarray(groups)
    errors = np.zeros(len(times))
    for name in dict.fromkeys(groups):
        out = names == name
        errors[out] = np.log(times[out] / fit(~out)[out])
    return errors


def factor(errors: Floats, models: int, leverage: float, repeats: float = 0.0) -> float:
    """What a prediction is multiplied and divided by for the ends of its interval; `repeats` is r of the formula."""
    spread = float(np.sqrt(np.mean(errors**2) + repeats**2))
    return float(np.exp(student(max(1, models - 1)) * spread * sqrt(1 + leverage)))
