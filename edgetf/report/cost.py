"""What a model costs by counting, beside what was measured; and a remark where the counted gain did not arrive.

Parameters and multiply-accumulates are counted (edgetf.models.shapes); milliseconds are measured, and are what matters.
The rule: a model with clearly fewer multiply-accumulates than another, by a factor of `CLEAR` or more, is expected to
be faster. It is *not faster* if the 95 % interval of its speed-up reaches down to 1. It *gains less than half* if all
of the interval lies under ``1 + ENOUGH · (factor - 1)``. A remark says so; it changes no verdict, a budget does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgetf.core.artifact import Artifact
from edgetf.core.files import read_json
from edgetf.models.shapes import cost_of
from edgetf.validation.row import DeviceRow

CLEAR = 1.1
ENOUGH = 0.5
_DONE = {"prune": "pruned", "distill": "distilled"}
Interval = Sequence[float]


@dataclass(frozen=True)
class Counted:
    """What can be counted of a model file; multiply-accumulates are those of one text of `seq_len` tokens."""

    params: int | None
    macs: int | None
    size_bytes: int
    seq_len: int


def counted(artifact: Artifact, seq_len: int) -> Counted:
    """The cost of the model in an artifact, without what exact rewrites save of it."""
    config = artifact.path / "config.json"
    macs = cost_of(read_json(config), seq_len).macs if config.is_file() else None
    return Counted(artifact.spec.params, macs, artifact.manifest.size_bytes, seq_len)


def shortfall(factor: float, interval: Interval) -> str | None:
    """What is missing where `factor` times fewer multiply-accumulates brought a speed-up in this 95 % interval.

    >>> shortfall(2.0, (0.97, 1.04)), shortfall(4.0, (1.8, 2.1)), shortfall(4.0, (2.2, 2.6)), shortfall(1.05, (0.9, 1))
    ('not faster', 'less than half of the gain is measured', None, None)
    """
    if factor < CLEAR:
        return None
    if interval[0] <= 1:
        return "not faster"
    return "less than half of the gain is measured" if interval[1] < 1 + ENOUGH * (factor - 1) else None


def remark(made_by: str, own: int | None, other: int | None, than: str, interval: Interval, where: str) -> str | None:
    """The remark on a model that a stage made with `own` multiply-accumulates, where another needs `other`."""
    if not own or not other or (missing := shortfall(other / own, interval)) is None:
        return None
    return (
        f"{_DONE.get(made_by, 'smaller')} but {missing}: "
        f"{other / own:.1f} times fewer multiply-accumulates than {than}, "
        f"measured {interval[0]:.2f} to {interval[1]:.2f} times as fast on {where} (95 %)"
    )


def variant_remarks(made_by: str, own: Counted, teacher: Counted, rows: Sequence[DeviceRow]) -> list[str]:
    """What to say of a variant beside its teacher, on every device where both were timed."""
    found = [
        remark(made_by, own.macs, teacher.macs, "its teacher", row.speedup_ci95, row.device)
        for row in rows
        if row.speedup_ci95
    ]
    return [line for line in found if line]


def faster_than(one: Interval, other: Interval) -> tuple[float, float]:
    """An interval of how much faster one is than another, from the intervals of both over a third, both at their worst.

    >>> faster_than((3.0, 4.0), (1.0, 2.0))
    (1.5, 4.0)
    """
    return one[0] / other[1], one[1] / other[0]


def remark_lines(record: dict[str, Any]) -> list[str]:
    """Every remark of a report, with the stage or variant that it is about; one that both have is the variant's."""
    variants = [(variant["name"], line) for variant in record["variants"] for line in variant.get("remarks", [])]
    said = {line for _, line in variants}
    stages = [(stage["name"], line) for stage in record["stages"] for line in stage.get("remarks", [])]
    return [f"{name}: {line}" for name, line in [*(pair for pair in stages if pair[1] not in said), *variants]]
