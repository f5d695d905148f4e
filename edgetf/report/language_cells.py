"""The rows of a language model's tables as text, the same in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetf.core.metrics import Metric, find_metric
from edgetf.report.cells import any_counted, device_cell, instructions_cell
from edgetf.report.words import (
    fraction,
    mebibytes,
    millions,
    milliseconds,
    per_second,
    seconds,
    times,
    times_less,
    with_interval,
)
from edgetf.validation.language.readings import middle
from edgetf.validation.row import DeviceRow

Rows = Sequence[tuple[str, DeviceRow]]

STAGE_COLUMNS = ("stage", "perplexity", "ratio", "parameters", "size", "a token", "speed-up", "took")
ROW_COLUMNS = ("variant", "device", "perplexity", "ratio", "KL", "flips", "size", "tokens/s", "speed-up", "peak RSS")
DECODING_COLUMNS = ("variant", "device", "context", "first token", "prefill/s", "tokens/s", "reference",
                    "speed-up (95 %)", "read a token", "roof", "of the roof")  # fmt: skip


def stage_cells(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row a stage, after one for the teacher where no stage trained it; with ratios to the teacher."""
    teacher, stages = record["teacher"] or {}, record["stages"]
    if teacher and "pretrain" not in [stage["name"] for stage in stages]:
        stages = [{**teacher, "name": "teacher", "seconds": None, "cached": False, "speedup": 1.0}, *stages]
    rows: list[tuple[str, ...]] = []
    for stage in stages:
        trained = stage["name"] == "pretrain"
        metrics = [Metric.from_json(each) for each in stage["metrics"]]
        rows.append((
            "pretrain (teacher)" if trained else stage["name"],
            with_interval(find_metric(metrics, "perplexity") or find_metric(metrics, "dev_perplexity")),
            fraction(find_metric(metrics, "perplexity_ratio")),
            millions(stage["params"]) + times_less(stage["params"], teacher.get("params")),
            mebibytes(stage["size_bytes"]) + times_less(stage["size_bytes"], teacher.get("size_bytes")),
            milliseconds(stage["latency_p50_ms"]),
            times(1.0 if trained else stage["speedup"]),
            seconds(stage["seconds"]) + (" (reused)" if stage["cached"] else ""),
        ))  # fmt: skip
    return rows


def row_columns(rows: Rows) -> tuple[str, ...]:
    """What `row_cells` gives of each of these rows."""
    return (*ROW_COLUMNS, *(["instructions"] if any_counted(rows) else []), "verdict")


def row_cells(name: str, row: DeviceRow, counted: bool) -> tuple[str, ...]:
    """One variant on one device, with what was `counted` of any; tokens a second behind the middle context."""
    metrics = [Metric.from_json(record) for record in row.metrics]
    return (
        name, device_cell(row), with_interval(find_metric(metrics, "perplexity")),
        *(fraction(find_metric(metrics, key)) for key in ("perplexity_ratio", "kl", "flip_rate")),
        mebibytes(row.size_bytes), rate_cell(row), times(row.speedup), mebibytes(row.peak_rss_bytes),
        *([instructions_cell(row)] if counted else []), row.verdict,
    )  # fmt: skip


def rate_cell(row: DeviceRow) -> str:
    """Tokens a second, measured or predicted, and which."""
    if row.how == "predicted" and row.predicted is not None:
        low, high = row.predicted["interval_tokens_per_s"]
        said = f"{per_second(low)} to {per_second(high)}"
        return f"{per_second(row.predicted['decode_tokens_per_s'])} predicted ({said})"
    entry = middle(row.decoding)
    return per_second(entry["decode_tokens_per_s"] if entry else None)


def decoding_cells(rows: Rows) -> list[tuple[str, ...]]:
    """A row for each context of each variant that was timed."""
    return [_decoding(name, row, entry) for name, row in rows for entry in row.decoding]


def _decoding(name: str, row: DeviceRow, entry: dict[str, Any]) -> tuple[str, ...]:
    reference, roof = entry["reference"] or {}, entry["roofline"] or {}
    interval = entry["speedup_ci95"]
    scatter = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    share = roof.get("share")
    cached = ", in a cache" if roof.get("in_cache") else ""
    return (
        name, device_cell(row), str(entry["context"]), milliseconds(entry["ttft_ms"]),
        per_second(entry["prefill_tokens_per_s"]), per_second(entry["decode_tokens_per_s"]),
        per_second(reference.get("decode_tokens_per_s")), times(entry["speedup"]) + scatter,
        mebibytes(roof.get("bytes_per_token")), per_second(roof.get("tokens_per_s")) + cached,
        "–" if share is None else f"{share:.0%}",
    )  # fmt: skip
