"""A part of a piece of work that several machines share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgetf.core.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """The K-th of N parts of the same size, K from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def read(cls, word: str, place: str) -> Part:
        """What is written K/N.

        >>> Part.read("2/4", "--teacher-outputs")
        Part(number=2, of=4)

        Raises:
            ConfigError: it is something else.
        """
        found = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", word)
        if found is None or int(found[1]) > int(found[2]):
            raise ConfigError(f"{place}: got {word!r}, allowed: K/N with K from 1 to N, such as 1/1 or 2/4")
        return cls(int(found[1]), int(found[2]))


WHOLE = Part()
