"""The members of a family side by side: what each costs and keeps, and which of them is worth taking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.document import rows_of, task_of_run
from edgetf.validation.row import DeviceRow


@dataclass(frozen=True)
class Member:
    """One member of a family by the variant that stands for it: the best one, else the fastest that was measured."""

    name: str
    verdict: str
    variant: str | None = None  # None: nothing of it was measured
    row: DeviceRow | None = None
    headline: Metric | None = None  # the task's metric
    drop: Metric | None = None  # what is lost of it against the teacher, where the task has that
    params: int | None = None
    macs: int | None = None
    in_front: bool = False  # no other member is both as fast and as good


def members_of(record: dict[str, Any]) -> list[Member]:
    """The family of a report, the largest model first; empty where the run made one model."""
    found = [_member(record, entry) for entry in record.get("family", [])]
    return [replace(member, in_front=_leads(member, found)) for member in found]


def _member(record: dict[str, Any], entry: dict[str, Any]) -> Member:
    own = {variant["name"]: variant for variant in record["variants"] if variant["member"] == entry["name"]}
    measured = [(name, row) for name, row in rows_of(record) if name in own and row.latency_p50_ms is not None]
    best = [pair for pair in measured if pair[0] == entry["best"]]
    if not measured:
        return Member(entry["name"], entry["verdict"])
    name, row = min(best or measured, key=lambda pair: pair[1].latency_p50_ms or 0.0)
    task, metrics = task_of_run(record), [Metric.from_json(metric) for metric in row.metrics]
    return Member(
        entry["name"],
        entry["verdict"],
        name,
        row,
        find_metric(metrics, task.headline),
        find_metric(metrics, task.drop) if task.drop else None,
        own[name]["params"],
        own[name]["macs"],
    )


def _leads(member: Member, others: list[Member]) -> bool:
    """Whether no other member is as fast and as good, and better in one of the two."""
    mine = _worth(member)
    if mine is None:
        return False
    theirs = [worth for other in others if (worth := _worth(other)) is not None]
    return not any(other != mine and all(a >= b for a, b in zip(other, mine, strict=True)) for other in theirs)


def _worth(member: Member) -> tuple[float, float] | None:
    """The task's metric and speed, both the more the better."""
    headline = member.headline
    if member.row is None or not member.row.latency_p50_ms or headline is None or headline.value is None:
        return None
    return headline.value, -member.row.latency_p50_ms
