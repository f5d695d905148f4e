"""Turn what pydantic found wrong into lines a person can act on: place: got, allowed, next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from edgetf.core.errors import near_match

Name = Callable[[tuple[int | str, ...]], str]


def dotted(location: tuple[int | str, ...]) -> str:
    """The path of a field as a user writes it."""
    return ".".join(str(part) for part in location)


def explain(error: ValidationError, schema: type[BaseModel], place: str = "", name: Name = dotted) -> list[str]:
    """One line a problem; `name` spells a location the way its author wrote it."""
    fields = field_names(schema)
    return [place + _line(problem, fields, name) for problem in error.errors()]


def _line(problem: Any, fields: dict[str, set[str]], name: Name) -> str:
    location = problem["loc"]
    where = name(location)
    got = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            siblings = fields.get(_owner(location, fields), set())
            return f"{where}: not a field{near_match(str(location[-1]), siblings)}"
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


def _owner(location: tuple[int | str, ...], fields: dict[str, set[str]]) -> str:
    """The nearest enclosing name that has fields of its own."""
    for part in reversed(location[:-1]):
        if str(part) in fields:
            return str(part)
    return ""


def field_names(schema: type[BaseModel]) -> dict[str, set[str]]:
    """Field names of a model and of every model inside it, by the name under which it stands ("" is the top)."""
    table: dict[str, set[str]] = {"": set(schema.model_fields)}
    for name, field in schema.model_fields.items():
        for inner in _models(field.annotation):
            own = name
            tag = inner.model_fields.get("stage")
            if tag is not None:  # a stage of a recipe stands under its own word, not under the list's
                own = str(get_args(tag.annotation)[0])
            for place, names in field_names(inner).items():
                table.setdefault(place or own, set()).update(names)
    return table


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
