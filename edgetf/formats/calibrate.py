"""The ranges of activations over calibration rows, whatever runs them.

Nothing is kept of a row but two numbers and a histogram for each value, so that memory does not grow with the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from edgetf.algorithms.observers import BINS, NARROW, Range, chosen_range
from edgetf.core.errors import ParityError
from edgetf.core.metrics import Floats
from edgetf.core.schemes import CalibrationMethod

Seen = Callable[[], Iterator[tuple[str, Floats]]]  # every named value of every row, from the first row on


def observed_ranges(seen: Seen, method: CalibrationMethod, levels: int) -> dict[str, Range]:
    """The range of every value that its `levels` steps should cover.

    The rows run once for the ends and, but for min_max, once more for the histograms between them.

    Raises:
        ParityError: there is no row, or a value is not a finite number.
    """
    ends: dict[str, Range] = {}
    for name, values in seen():
        low, high = ends.get(name, (0.0, 0.0))
        ends[name] = float(np.minimum(low, values.min())), float(np.maximum(high, values.max()))  # a NaN stays one
    if not ends:
        raise ParityError("calibration: got no rows, allowed: 1 or more; raise quantize.calibration.rows")
    broken = next((name for name, (low, high) in ends.items() if not np.isfinite([low, high]).all()), None)
    if broken is not None:
        raise ParityError(f"calibration: {broken} is not a finite number for some row; the model is broken")
    if method == "min_max":
        return ends
    wide = {name for name, (low, high) in ends.items() if high - low > NARROW}
    counts: dict[str, Floats] = {name: np.zeros(BINS) for name in wide}
    for name, values in seen():
        if name in wide:
            counts[name] += np.histogram(values, BINS, ends[name])[0]
    return ends | {name: chosen_range(counts[name], *ends[name], method, levels) for name in wide}
