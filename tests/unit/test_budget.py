"""A budget line is kept, missed, or not measured; a wrong one is refused with all its neighbours."""

from __future__ import annotations

import pytest

from edgetf.core.budget import (
    BUDGET_KEYS,
    LOWER_BOUNDS,
    UPPER_BOUNDS,
    budget_problems,
    check_budget,
    overall,
    parse_budget,
)
from edgetf.core.errors import ConfigError


@pytest.mark.parametrize("key", UPPER_BOUNDS)
def test_an_upper_bound_is_kept_at_its_limit_and_missed_above(key: str) -> None:
    assert check_budget({key: 0.5}, {key: 0.5}, "")[0].verdict == "pass"
    assert check_budget({key: 0.5}, {key: 0.51}, "")[0].verdict == "fail"


@pytest.mark.parametrize("key", LOWER_BOUNDS)
def test_a_lower_bound_is_kept_at_its_limit_and_missed_below(key: str) -> None:
    assert check_budget({key: 0.5}, {key: 0.5}, "")[0].verdict == "pass"
    assert check_budget({key: 0.5}, {key: 0.49}, "")[0].verdict == "fail"


def test_a_check_says_value_limit_and_outcome() -> None:
    check = check_budget({"accuracy_drop": 0.02}, {"accuracy_drop": 0.0312}, "")[0]
    assert check.why == "accuracy_drop: 0.0312, wanted <= 0.02: missed"
    assert (check.limit, check.value) == (0.02, 0.0312)


@pytest.mark.parametrize("values", [{}, {"speedup": None}])
def test_what_was_not_measured_is_neither_pass_nor_fail(values: dict[str, float | None]) -> None:
    check = check_budget({"speedup": 4}, values, "no reference")[0]
    assert (check.verdict, check.value, check.why) == ("not_measured", None, "speedup: not measured (no reference)")


def test_every_line_is_checked_in_its_order() -> None:
    checks = check_budget({"speedup": 4, "accuracy": 0.9}, {"accuracy": 0.95, "speedup": 3}, "")
    assert [(check.key, check.verdict) for check in checks] == [("speedup", "fail"), ("accuracy", "pass")]


def test_a_fail_outweighs_not_measured_and_that_outweighs_a_pass() -> None:
    assert overall(["pass", "not_measured", "fail"]) == "fail"
    assert overall(["pass", "not_measured"]) == "not_measured"
    assert overall(["pass"]) == "pass"
    assert overall([]) == "pass"


def test_words_become_numbers() -> None:
    assert parse_budget(["accuracy_drop=2e-2", "speedup=4"]) == {"accuracy_drop": 0.02, "speedup": 4.0}
    assert parse_budget([]) == {}


def test_all_wrong_words_are_named_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_budget(["accuracy_drop", "speedup=fast", "speedupp=2", "accuracy=95", "size_mib=-1", "accuracy_drop=0.1"])
    problems = caught.value.problems
    assert len(problems) == 5
    text = str(caught.value)
    for part in (
        "--budget accuracy_drop: not a number",
        "--budget speedup=fast: not a number",
        "speedupp: not a budget; did you mean speedup?",
        "accuracy: got 95, allowed 0 to 1",
        "size_mib: got -1, allowed 0 or more",
    ):
        assert part in text


@pytest.mark.parametrize("key", BUDGET_KEYS)
def test_nan_is_no_budget(key: str) -> None:
    assert budget_problems({key: float("nan")})
    with pytest.raises(ConfigError):
        parse_budget([f"{key}=nan"])


def test_a_problem_says_where_the_budget_stands() -> None:
    assert budget_problems({"colour": 1}, "budget.")[0].startswith("budget.colour: not a budget")
