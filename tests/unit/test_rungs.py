"""What the ladder makes of measurements: which file is refused, chosen, the best so far, and on the front."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetf.validation.rungs import (
    AS_FAST,
    SLOWER,
    STATIC_SLOWER,
    Rung,
    best_so_far,
    choose,
    pareto_front,
    refusals,
    settled,
)

MOST = 0.01


def rung(name: str, drop: float, latency: float, size: float = 0.25, scheme: str | None = None) -> Rung:
    """A file that loses `drop`, with its latency and its size beside the fp32 file's."""
    metric = {"name": "accuracy_drop", "value": drop, "unit": "fraction", "n": 100, "ci95": [drop, drop]}
    guessed = "w8a8" if "static" in name else "w8a8_dynamic"
    return Rung(name, scheme or guessed, 1000, size, 1.0, latency, (latency, latency), True, 1.0, {}, {}, [metric])


PLAIN = rung("fp32", 0.0, 1.0, 1.0, "fp32")


def names(rungs: list[Rung]) -> list[str]:
    return [each.name for each in rungs]


class TestDrop:
    def test_is_that_of_the_tasks_metric(self) -> None:
        assert rung("dynamic", 0.0123, 0.5).drop == 0.0123

    def test_of_a_task_without_one_keeps_no_budget(self) -> None:
        assert replace(rung("dynamic", 0.0, 0.5), metrics=[]).drop == float("inf")

    def test_that_was_not_measured_keeps_no_budget(self) -> None:
        found = rung("dynamic", 0.0, 0.5)
        found.metrics[0]["value"] = None
        assert found.drop == float("inf")
        assert choose([found], 0.99) is None

    def test_that_is_no_number_keeps_no_budget(self) -> None:
        assert choose([rung("dynamic", float("nan"), 0.5)], 0.99) is None


class TestRefusals:
    def test_of_what_loses_too_much_say_how_much(self) -> None:
        assert refusals([rung("dynamic", 0.0301, 0.5)], MOST) == {"dynamic": "loses 0.0301"}

    def test_exactly_the_budget_is_kept(self) -> None:
        assert refusals([rung("dynamic", MOST, 0.5)], MOST) == {}

    @pytest.mark.parametrize(("latency", "refused"), [(0.99, False), (1.0, True), (1.34, True)])
    def test_of_what_is_slower_than_fp32(self, latency: float, refused: bool) -> None:
        found = refusals([rung("static-min_max", 0.0, latency)], MOST)
        assert found == ({"static-min_max": SLOWER} if refused else {})

    @pytest.mark.parametrize(("ratio", "refused"), [(1.09, False), (STATIC_SLOWER + 0.01, True), (1.9, True)])
    def test_of_a_static_file_that_is_slower_than_the_dynamic_one(self, ratio: float, refused: bool) -> None:
        found = refusals([rung("dynamic", 0.0, 0.5), rung("static-min_max", 0.0, 0.5 * ratio)], MOST)
        assert list(found) == (["static-min_max"] if refused else [])
        if refused:
            assert found["static-min_max"] == f"{ratio:.2f} times as slow as dynamic"

    def test_a_static_file_alone_has_no_dynamic_one_to_be_slower_than(self) -> None:
        assert refusals([rung("static-min_max", 0.0, 0.9)], MOST) == {}

    def test_the_fastest_dynamic_file_counts_also_where_it_loses_too_much(self) -> None:
        rungs = [rung("dynamic", 0.5, 0.4), rung("smooth-dynamic", 0.0, 0.6), rung("static-mse", 0.0, 0.5)]
        assert refusals(rungs, MOST) == {"dynamic": "loses 0.5000", "static-mse": "1.25 times as slow as dynamic"}


class TestChoose:
    def test_the_fastest(self) -> None:
        rungs = [rung("dynamic", 0.0, 0.6), rung("static-min_max", 0.005, 0.5)]
        assert choose(rungs, MOST) is rungs[1]

    def test_of_equally_fast_ones_the_first(self) -> None:
        """It cost the least to make; timings repeat no better."""
        rungs = [rung("dynamic", 0.01, 0.5 * (AS_FAST - 0.001)), rung("static-min_max", 0.0, 0.5)]
        assert choose(rungs, MOST) is rungs[0]
        slower = [rung("dynamic", 0.01, 0.5 * (AS_FAST + 0.001)), rung("static-min_max", 0.0, 0.5)]
        assert choose(slower, MOST) is slower[1]

    def test_of_those_that_keep_the_budget(self) -> None:
        rungs = [rung("dynamic", 0.02, 0.3), rung("static-min_max", 0.011, 0.32), rung("smooth-dynamic", 0.01, 0.9)]
        assert choose(rungs, MOST) is rungs[2]

    def test_none_where_none_keeps_it(self) -> None:
        assert choose([rung("dynamic", 0.02, 0.3), rung("static-min_max", 0.03, 0.3)], MOST) is None
        assert choose([], MOST) is None

    def test_fp32_where_all_that_keep_it_are_slower(self) -> None:
        """What is slower than fp32 is never chosen; the budget is not said to be missed either."""
        slow, slower = rung("dynamic", 0.0, 1.05), rung("static-min_max", 0.0, 1.3)
        assert choose([PLAIN, slower, slow], MOST) is PLAIN
        fast = rung("smooth-dynamic", 0.01, 0.99)
        assert choose([PLAIN, slow, slower, fast], MOST) is fast

    def test_not_fp32_where_none_keeps_it(self) -> None:
        assert choose([PLAIN, rung("dynamic", 0.02, 0.3)], MOST) is None

    def test_a_file_that_loses_nothing_keeps_a_budget_of_nothing(self) -> None:
        assert choose([rung("dynamic", 0.0, 0.5)], 0.0) is not None
        assert choose([rung("dynamic", -0.01, 0.5)], 0.0) is not None  # better than fp32
        assert choose([rung("dynamic", 1e-9, 0.5)], 0.0) is None


class TestSettled:
    def test_once_a_file_keeps_it(self) -> None:
        assert settled([rung("dynamic", 0.0, 0.5)], MOST)
        assert not settled([rung("dynamic", 0.02, 0.5)], MOST)
        assert not settled([], MOST)

    def test_also_where_int8_is_slow_here(self) -> None:
        """More rungs would make no file faster."""
        assert settled([rung("dynamic", 0.0, 1.2)], MOST)

    def test_not_where_a_dynamic_file_would_be_faster(self) -> None:
        rungs = [rung("dynamic", 0.02, 0.4), rung("static-min_max", 0.0, 0.8)]
        assert not settled(rungs, MOST)
        assert choose(rungs, MOST) is rungs[1]  # kept for the case that no higher rung does better


class TestBestSoFar:
    def test_is_what_loses_least_of_those_faster_than_fp32(self) -> None:
        rungs = [rung("dynamic", 0.05, 0.3), rung("static-mse", 0.03, 0.9), rung("static-min_max", 0.02, 1.1)]
        assert best_so_far(rungs) is rungs[1]

    def test_or_of_all_where_none_is(self) -> None:
        rungs = [rung("dynamic", 0.05, 1.3), rung("static-mse", 0.03, 1.9)]
        assert best_so_far(rungs) is rungs[1]

    def test_of_equals_the_fastest(self) -> None:
        rungs = [rung("dynamic", 0.05, 0.6), rung("static-mse", 0.05, 0.5)]
        assert best_so_far(rungs) is rungs[1]


class TestFront:
    def test_leaves_out_what_another_beats(self) -> None:
        rungs = [
            rung("dynamic", 0.02, 0.4, 0.25),
            rung("static-min_max", 0.03, 0.5, 0.25),  # dynamic is better and faster
            rung("static-mse", 0.02, 0.4, 0.26),  # the same, but larger
            rung("float-1", 0.01, 0.6, 0.40),
            rung("fast", 0.09, 0.3, 0.25),
        ]
        assert pareto_front(rungs) == ["dynamic", "float-1", "fast"]

    def test_equals_are_all_on_it(self) -> None:
        assert pareto_front([rung("a", 0.0, 0.5), rung("b", 0.0, 0.5)]) == ["a", "b"]


numbers = st.sampled_from([0.0, 0.005, 0.01, 0.02, 0.3])
ratios = st.sampled_from([0.2, 0.5, 0.51, 0.9, 1.0, 1.5])
some_rungs = st.lists(st.tuples(numbers, ratios, ratios, st.booleans()), min_size=1, max_size=8).map(
    lambda rows: [rung(f"{'static' if s else 'dynamic'}-{k}", d, t, z) for k, (d, t, z, s) in enumerate(rows)]
)


@given(some_rungs)
def test_laws(rungs: list[Rung]) -> None:
    """What is chosen keeps the budget; something is chosen whenever a file keeps it; the front beats all others."""
    chosen, keeping = choose([PLAIN, *rungs], MOST), [each for each in rungs if each.drop <= MOST]
    assert (chosen is not None) == bool(keeping)
    if chosen is PLAIN:
        assert all(each.latency_ratio >= 1 for each in keeping)
    elif chosen is not None:
        assert chosen in keeping and chosen.latency_ratio < 1
    refused = refusals(rungs, MOST)
    if chosen is not None and chosen.name in refused:
        assert all(each.name in refused for each in rungs)
    assert not settled(rungs, MOST) or chosen is not None
    front = [each for each in rungs if each.name in pareto_front(rungs)]
    assert front

    def cost(each: Rung) -> Any:
        return np.array([each.drop, each.latency_ratio, each.size_ratio])

    for each in rungs:
        assert any((cost(other) <= cost(each)).all() for other in front)
    assert best_so_far(rungs).drop == min(each.drop for each in ([r for r in rungs if r.latency_ratio < 1] or rungs))
