"""The result as tables: a row a stage, then a row a variant × device with its verdict."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.document import rows_of
from edgetf.report.family import Member, members_of
from edgetf.report.words import mebibytes, milliseconds, seconds, signed, with_interval
from edgetf.validation.validate import DeviceRow

_STYLE = {"pass": "green", "fail": "red", "not_measured": "yellow"}


def _metrics(records: list[dict[str, Any]]) -> list[Metric]:
    return [Metric.from_json(record) for record in records]


def _accuracy(metrics: list[Metric]) -> str:
    return with_interval(find_metric(metrics, "accuracy") or find_metric(metrics, "dev_accuracy"))


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} ×"


def run_tables(record: dict[str, Any]) -> Group:
    """The tables of a report, and its verdict."""
    family = members_of(record)
    return Group(
        stage_table(record), variant_table(record), *([family_table(family)] if family else []), _summary(record)
    )


def stage_table(record: dict[str, Any]) -> Table:
    """What each stage cost and bought; accuracy and milliseconds are those of its exported file."""
    table = Table(title=f"{record['recipe']}: stages", title_justify="left")
    for column in ("stage", "accuracy", "parameters", "size", "p50", "speed-up", "took"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    teacher = record["teacher"]
    names = [stage["name"] for stage in record["stages"]]
    if teacher is not None and "finetune" not in names:
        table.add_row(
            "teacher", _accuracy(_metrics(teacher["metrics"])), f"{teacher['params']:,}",
            mebibytes(teacher["size_bytes"]), milliseconds(teacher["latency_p50_ms"]), _times(1.0), "–",
        )  # fmt: skip
    for stage in record["stages"]:
        is_teacher = stage["name"] == "finetune"
        table.add_row(
            "finetune (teacher)" if is_teacher else stage["name"],
            _accuracy(_metrics(stage["metrics"])),
            f"{stage['params']:,}" if stage["params"] else "–",
            mebibytes(stage["size_bytes"]),
            milliseconds(stage["latency_p50_ms"]),
            _times(1.0 if is_teacher else stage["speedup"]),
            seconds(stage["seconds"]) + (" (reused)" if stage["cached"] else ""),
        )
    return table


def device_table() -> Table:
    """The columns of a row a variant × device."""
    table = Table(title="variants", title_justify="left")
    for column in ("variant", "device", "accuracy", "drop", "size", "p50", "p90", "speed-up", "peak RSS", "verdict"):
        table.add_column(column, justify="left" if column in {"variant", "device", "verdict"} else "right")
    return table


def add_device_row(table: Table, name: str, row: DeviceRow) -> None:
    """One variant on one device."""
    metrics = _metrics(row.metrics)
    table.add_row(
        Text(name),
        Text(row.device),
        _accuracy(metrics),
        signed(find_metric(metrics, "accuracy_drop")),
        mebibytes(row.size_bytes),
        milliseconds(row.latency_p50_ms),
        milliseconds(row.latency_p90_ms),
        _times(row.speedup),
        mebibytes(row.peak_rss_bytes),
        Text(row.verdict, style=_STYLE[row.verdict]),
    )


def variant_table(record: dict[str, Any]) -> Table:
    """All variants of a report."""
    table = device_table()
    for name, row in rows_of(record):
        add_device_row(table, name, row)
    return table


def family_table(members: list[Member]) -> Table:
    """The members of a family, each by its best variant; what no other member beats is on the front."""
    table = Table(title="family, each by its best variant", title_justify="left")
    for column in ("member", "variant", "accuracy", "drop", "parameters", "size", "p50", "speed-up"):
        table.add_column(column, justify="left" if column in {"member", "variant"} else "right")
    table.add_column("front", justify="center")
    table.add_column("verdict")
    for member in members:
        row = member.row
        table.add_row(
            Text(member.name),
            Text(member.variant or "–"),
            with_interval(member.accuracy),
            signed(member.drop),
            f"{member.params:,}" if member.params else "–",
            mebibytes(row.size_bytes if row else None),
            milliseconds(row.latency_p50_ms if row else None),
            _times(row.speedup if row else None),
            "●" if member.in_front else "",
            Text(member.verdict, style=_STYLE[member.verdict]),
        )
    return table


def _summary(record: dict[str, Any]) -> Text:
    text = Text()
    budget = ", ".join(f"{key}={value:g}" for key, value in record["budget"].items()) or "none"
    text.append(f"budget: {budget} → ")
    text.append(record["verdict"], style=_STYLE[record["verdict"]])
    if record["best"]:
        text.append(f"; the fastest variant that keeps it: {record['best']}")
    passed = [member["name"] for member in record.get("family", []) if member["verdict"] == "pass"]
    if record.get("family"):
        text.append(f"; members that keep it: {', '.join(passed) or 'none'}")
    text.append(f"\nrun: {record['run']}, {seconds(record['seconds'])}")
    return text


def console() -> Console:
    """stdout, wide enough for the tables where it is not a terminal."""
    made = Console()
    return made if made.is_terminal else Console(width=140)
