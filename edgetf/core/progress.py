"""How long work says how far it is: steps done, steps in all, and what is being done."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[int, int, str], None]
