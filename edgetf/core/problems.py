"""Turn what pydantic found wrong into lines a person can act on: place: got, allowed, next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from edgetf.core.errors import near_match

Name = Callable[[tuple[int | str, ...]], str]


def dotted(location: tuple[int | str, ...]) -> str:
    """The path of a field as a user writes it."""
    return ".".join(str(part) for part in location)


def explain(error: ValidationError, schema: type[BaseModel], place: str = "", name: Name = dotted) -> list[str]:
    """One line a problem; `name` spells a location the way its author wrote it."""
    found = error.errors()
    places = [problem["loc"] for problem in found]
    # A list whose only item is wrong is also reported as too short: the item says it all.
    inner = [problem for problem in found if not any(_inside(other, problem["loc"]) for other in places)]
    return [place + _line(problem, schema, name) for problem in inner]


def _inside(location: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(location) > len(outer) > 0 and location[: len(outer)] == outer


def _line(problem: Any, schema: type[BaseModel], name: Name) -> str:
    location = problem["loc"]
    where = name(location)
    got = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            return f"{where}: not a field{near_match(str(location[-1]), siblings(schema, location))}"
        case "missing":
            return f"{where}: missing; add it"
        case "union_tag_invalid" | "literal_error":
            context = problem.get("ctx", {})
            allowed = context.get("expected") or context.get("expected_tags")
            return f"{where}: got {_short(got)}, allowed: {allowed}"
        case _:
            return f"{where}: got {_short(got)}; {problem['msg'].removeprefix('Value error, ')}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def siblings(schema: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """The fields that are known where the last part of a location stands.

    A location names fields, positions in a list, and the tags by which a union was decided.
    """
    models = [schema]
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        inside = [inner for model in models if part in model.model_fields
                  for inner in _models(model.model_fields[part].annotation)]  # fmt: skip
        models = inside or [model for model in models if part in _tags(model)] or models
    return {field for model in models for field in model.model_fields}


def _tags(model: type[BaseModel]) -> set[Any]:
    """The values of a model's literal fields, one of which tells it from the others of its union."""
    return {value for field in model.model_fields.values() if get_origin(field.annotation) is Literal
            for value in get_args(field.annotation)}  # fmt: skip


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
