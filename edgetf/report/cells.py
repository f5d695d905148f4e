"""The rows of a report's tables as text, the same in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.document import task_of_run
from edgetf.report.family import Member
from edgetf.report.words import (
    fraction,
    mebibytes,
    millions,
    milliseconds,
    seconds,
    signed,
    times,
    times_less,
    with_interval,
)
from edgetf.tasks.task import Task
from edgetf.validation.row import DeviceRow

COST_COLUMNS = ("variant", "parameters", "MACs", "size", "p50", "speed-up (95 %)")


def stage_columns(task: Task) -> tuple[str, ...]:
    """What `stage_cells` gives."""
    return ("stage", task.headline, "parameters", "MACs", "size", "p50", "speed-up", "took")


def family_columns(task: Task) -> tuple[str, ...]:
    """What `family_cells` gives."""
    return ("member", "variant", task.headline, "drop", "parameters", "MACs", "size", "p50", "speed-up", "front",
            "verdict")  # fmt: skip


def headline_of(records: list[dict[str, Any]], task: Task) -> str:
    """The task's metric, on the evaluation rows, or where that was not measured on the dev rows."""
    metrics = [Metric.from_json(record) for record in records]
    return with_interval(find_metric(metrics, task.headline) or find_metric(metrics, task.dev_name))


def stage_cells(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row a stage, after one for the teacher where no stage trained it; with ratios to the teacher."""
    teacher, stages, task = record["teacher"] or {}, record["stages"], task_of_run(record)
    if teacher and "finetune" not in [stage["name"] for stage in stages]:
        stages = [{**teacher, "name": "teacher", "seconds": None, "cached": False, "speedup": 1.0}, *stages]
    rows: list[tuple[str, ...]] = []
    for stage in stages:
        trained = stage["name"] == "finetune"
        rows.append((
            "finetune (teacher)" if trained else stage["name"],
            headline_of(stage["metrics"], task),
            *counted_cells(stage, teacher),
            milliseconds(stage["latency_p50_ms"]),
            times(1.0 if trained else stage["speedup"]),
            seconds(stage["seconds"]) + (" (reused)" if stage["cached"] else ""),
        ))  # fmt: skip
    return rows


def cost_cells(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for the teacher and each variant of a report, on its first device, with ratios to the teacher."""
    teacher = record["teacher"] or {}
    rows: list[tuple[str, ...]] = []
    if teacher:
        rows.append((teacher["name"], *counted_cells(teacher, {}), milliseconds(teacher["latency_p50_ms"]), "1"))
    for variant in record["variants"]:
        row = variant["devices"][0] if variant["devices"] else {}
        interval = row.get("speedup_ci95")
        scatter = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
        speedup = times(row.get("speedup")) + scatter
        rows.append(
            (variant["name"], *counted_cells(variant, teacher), milliseconds(row.get("latency_p50_ms")), speedup)
        )
    return rows


def counted_cells(own: dict[str, Any], teacher: dict[str, Any]) -> tuple[str, str, str]:
    """Parameters, multiply-accumulates and size of a stage or variant of a report, with the ratio to the teacher's."""
    params, macs, size = (
        show(own.get(name)) + times_less(own.get(name), teacher.get(name))
        for name, show in (("params", millions), ("macs", millions), ("size_bytes", mebibytes))
    )
    return params, macs, size


def latency_cell(row: DeviceRow, value: float | None) -> str:
    """Milliseconds of a device row: never of an emulated processor, and predicted ones by that name."""
    if row.how == "emulated":
        return milliseconds(None)
    return milliseconds(value) + (" predicted" if row.how == "predicted" and value is not None else "")


def device_cell(row: DeviceRow) -> str:
    """A device, with how its numbers came about where they were not measured on it and its name does not say so.

    >>> [device_cell(DeviceRow("raspberry_pi_4", how=how)) for how in ("measured", "predicted")]
    ['raspberry_pi_4', 'raspberry_pi_4 (predicted)']
    """
    said = row.how in {"measured", "not_measured"} or row.how in row.device
    return row.device if said else f"{row.device} ({row.how})"


def instructions_cell(row: DeviceRow) -> str:
    """The instructions of an inference, with the ratio to the reference's."""
    return millions(row.instructions) + times_less(row.instructions, row.reference_instructions)


def any_counted(rows: Sequence[tuple[str, DeviceRow]]) -> bool:
    """Whether there is a row with an instruction count."""
    return any(row.instructions is not None for _, row in rows)


LADDER_COLUMNS = ("file", "scheme", "drop", "agreement", "p", "size", "latency", "quantized", "batch", "chosen")


def ladder_cells(ladder: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each file that a ladder tried, those that answered wrongly last.

    Drop and agreement are those of the dev rows, against the fp32 file. Size and latency are shares of the fp32 file's.
    `batch` is how far answers move with their batch mates. No other file is as small, as fast and as good as one on the
    front, and better in one of these.
    """
    rows: list[tuple[str, ...]] = []
    for rung in ladder["rungs"]:
        metrics = {record["name"]: Metric.from_json(record) for record in rung["metrics"]}
        drop = next((metric for name, metric in metrics.items() if name.endswith("_drop")), None)
        said = ["chosen" if rung["name"] == ladder["chosen"] else "", rung["refused"] or ""]
        said += ["on the front"] if rung["name"] in ladder["front"] else []
        rows.append((
            f"{ladder['format']}-{rung['name']}",
            rung["scheme"],
            signed(drop),
            fraction(metrics.get("agreement")),
            fraction(metrics.get("mcnemar_p")),
            f"{rung['size_ratio']:.3f}",
            f"{rung['latency_ratio']:.2f}{'' if rung['trusted'] else ' (untrusted)'}",
            "–" if rung["quantized_share"] is None else f"{rung['quantized_share']:.2f}",
            "–" if rung["shifts"]["batch"] is None else f"{rung['shifts']['batch']:.1g}",
            ", ".join(filter(None, said)),
        ))  # fmt: skip
    for name, why in ladder["failed"].items():
        reason = why.partition(", allowed")[0].rpartition(": ")[2]
        rows.append((f"{ladder['format']}-{name}", *["–"] * (len(LADDER_COLUMNS) - 2), f"refused: {reason}"))
    return rows


def ladder_title(ladder: dict[str, Any]) -> str:
    """What a ladder was asked, and for what."""
    whose = f"{ladder['member']}, " if ladder["member"] else ""
    kept = "" if ladder["met"] else "; no file keeps it, the best so far is taken"
    return f"ladder, {whose}{ladder['format']}: accuracy_drop={ladder['accuracy_drop']:g} on the dev rows{kept}"


def family_cells(member: Member) -> tuple[str, ...]:
    """A member of a family by the variant that stands for it."""
    row = member.row
    return (
        member.name,
        member.variant or "–",
        with_interval(member.headline),
        signed(member.drop),
        millions(member.params),
        millions(member.macs),
        mebibytes(row.size_bytes if row else None),
        milliseconds(row.latency_p50_ms if row else None),
        times(row.speedup if row else None),
        "●" if member.in_front else "",
        member.verdict,
    )
