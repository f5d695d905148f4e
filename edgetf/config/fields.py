"""Kinds of numbers that several parts of a recipe use."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, TypeVar

from pydantic import Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Item = TypeVar("Item", bound=Hashable)


def once(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Refuse a list that names something twice."""
    if len(set(items)) < len(items):
        raise ValueError("each may be named once")
    return items
