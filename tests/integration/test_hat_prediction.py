"""The constants that predict 2,000 models on a Raspberry Pi 4, fitted to 100 of them, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from parts.hat_rows import FILE, PLACE, draw, read_rows

DRAWS = 3


@pytest.mark.skipif(not (PLACE / FILE).is_file(), reason=f"{FILE} is not beside the repository")
def test_a_raspberry_pi_4_is_predicted_within_5_percent_and_nine_in_ten_times_inside_the_interval() -> None:
    rows = read_rows(PLACE / FILE)
    assert len(rows.ms) == 2000
    clean = rows.kept("std <= 5 % of the mean")
    draws = [draw(clean, seed) for seed in range(DRAWS)]
    assert np.mean([each.mean_error for each in draws]) <= 0.05
    assert np.mean([each.within_10 for each in draws]) >= 0.94
    assert np.mean([each.inside for each in draws]) >= 0.9


@pytest.mark.skipif(not (PLACE / FILE).is_file(), reason=f"{FILE} is not beside the repository")
def test_a_rule_on_noise_leaves_out_few_rows_and_looks_at_no_prediction() -> None:
    rows = read_rows(PLACE / FILE)
    for rule, fewest in (("all rows", 2000), ("std <= 5 % of the mean", 1950), ("std within 3.5 MAD", 1800)):
        kept = rows.kept(rule)
        assert len(kept.ms) >= fewest
        assert kept.noise.max() <= max(rows.noise) and set(kept.ms) <= set(rows.ms)
