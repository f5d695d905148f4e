"""How many threads torch takes: with both of two cores busy, two threads were three times slower than one."""

from __future__ import annotations

import os
from typing import Literal

from edgetf.core.launcher import launched_here
from edgetf.core.made import load_average

IDLE = 0.5  # load a core, below which the machine counts as free


def choose_threads(wanted: int | Literal["auto"]) -> int:
    """The number asked for; "auto" is every core of an idle machine, among all our processes; one of a busy one."""
    if wanted != "auto":
        return wanted
    cores = os.cpu_count() or 1
    load = load_average()
    return max(1, cores // launched_here()) if load is not None and load < IDLE * cores else 1
