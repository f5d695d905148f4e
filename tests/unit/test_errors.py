"""Every error has its exit code, its message and its next step."""

from __future__ import annotations

import pytest

from edgetf.core.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    DeviceError,
    EdgetfError,
    ParityError,
    missing_extra,
    near_match,
    needs,
)


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError, 2), (DataError, 2), (ArtifactError, 3), (DeviceError, 4), (ParityError, 5)]
)
def test_exit_codes_are_those_of_the_contract(error: type[EdgetfError], code: int) -> None:
    assert issubclass(error, EdgetfError)
    assert error("x").exit_code == code


def test_config_error_shows_every_problem_on_its_line() -> None:
    error = ConfigError(["first", "second"])
    assert error.problems == ["first", "second"]
    assert str(error) == "first\nsecond"


def test_config_error_takes_one_problem_as_a_word() -> None:
    assert ConfigError("only").problems == ["only"]


def test_near_match_of_nothing_says_nothing() -> None:
    assert near_match("word", []) == ""


def test_near_match_lists_in_order_what_is_known() -> None:
    assert near_match("qqq", ["ort", "litert"]) == "; known: litert, ort"


def test_missing_extra_is_the_install_command() -> None:
    error = missing_extra("torch", "compress")
    assert str(error) == "torch: not installed; run: pip install 'edgetf[compress]'"
    assert error.exit_code == 4


def test_needs_turns_a_missing_package_into_the_install_command() -> None:
    message = r"no_such_package_of_ours: not installed; run: pip install 'edgetf\[ort\]'"
    with pytest.raises(DeviceError, match=message), needs("ort"):
        import no_such_package_of_ours  # noqa: F401


def test_needs_names_the_submodule_that_is_missing() -> None:
    with pytest.raises(DeviceError, match="json.no_such_part"), needs("ort"):
        import json.no_such_part  # noqa: F401


def test_needs_keeps_the_traceback_of_a_missing_module_of_our_own() -> None:
    with pytest.raises(ModuleNotFoundError, match="edgetf.no_such_part"), needs("ort"):
        import edgetf.no_such_part  # noqa: F401


def test_needs_lets_other_errors_through() -> None:
    with pytest.raises(ZeroDivisionError), needs("ort"):
        _ = 1 / 0
