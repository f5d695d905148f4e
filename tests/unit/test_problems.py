"""What pydantic finds wrong is said as place, got, allowed, next step."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edgetf.core.problems import dotted, explain, siblings


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Engine(Closed):
    power: Annotated[int, Field(ge=1)] = 1
    fuel: Literal["petrol", "diesel"] = "petrol"


class Car(Closed):
    wheels: int
    engine: Engine = Engine()
    spares: tuple[Engine, ...] = ()
    colour: str = "red"

    @field_validator("colour")
    @classmethod
    def _no_pink(cls, value: str) -> str:
        if value == "pink":
            raise ValueError("no pink cars")
        return value


def problems(tree: Any, **how: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Car.model_validate(tree)
    return explain(caught.value, Car, **how)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "wheels: missing; add it"),
        ({"wheels": 4, "whels": 3}, "whels: not a field; did you mean wheels?"),
        ({"wheels": 4, "engine": {"powr": 3}}, "engine.powr: not a field; did you mean power?"),
        ({"wheels": 4, "spares": [{"fule": "petrol"}]}, "spares.0.fule: not a field; did you mean fuel?"),
        ({"wheels": 4, "engine": {"fuel": "tea"}}, "engine.fuel: got 'tea', allowed: 'petrol' or 'diesel'"),
        ({"wheels": 4, "colour": "pink"}, "colour: got 'pink'; no pink cars"),
        ({"wheels": 4, "engine": {"power": 0}}, "engine.power: got 0; Input should be greater than or equal to 1"),
    ],
)
def test_a_problem_reads_place_got_allowed(tree: dict[str, Any], message: str) -> None:
    assert problems(tree) == [message]


def test_every_problem_has_its_line() -> None:
    assert len(problems({"whels": 3, "colour": 5, "engine": {"power": "x"}})) == 4


def test_a_long_value_is_cut() -> None:
    line = problems({"wheels": "x" * 500})[0]
    assert len(line) < 200
    assert "..." in line


def test_place_and_spelling_are_the_callers() -> None:
    lines = problems({"wheels": 4, "engine": {"power": 0}}, place="car.yaml: ", name=lambda at: "/".join(map(str, at)))
    assert lines[0].startswith("car.yaml: engine/power: got 0")


@pytest.mark.parametrize(
    ("location", "known"),
    [
        (("x",), {"wheels", "engine", "spares", "colour"}),
        (("engine", "x"), {"power", "fuel"}),
        (("spares", 3, "x"), {"power", "fuel"}),
    ],
)
def test_siblings_are_the_fields_known_at_that_place(location: tuple[int | str, ...], known: set[str]) -> None:
    assert siblings(Car, location) == known


def test_a_location_is_written_with_dots() -> None:
    assert dotted(("stages", 1, "epochs")) == "stages.1.epochs"
