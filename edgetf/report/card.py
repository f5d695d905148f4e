"""The model card of a variant: what it is, how to use it, and the numbers that were measured on its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetf.core.artifact import Artifact
from edgetf.core.metrics import Metric, find_metric
from edgetf.core.task_names import TaskName
from edgetf.report.cells import counted_cells
from edgetf.report.cost import Counted
from edgetf.report.words import fraction, mebibytes, milliseconds
from edgetf.tasks import task_of
from edgetf.validation.row import AWAY


def card(
    artifact: Artifact,
    rows: list[dict[str, Any]],
    recipe_name: str,
    task_name: TaskName,
    cost: tuple[Counted, Counted],
    remarks: Sequence[str] = (),
) -> str:
    """The Markdown text; `rows` are the variant's device rows, `cost` is its own and its teacher's."""
    spec, details, task = artifact.spec, artifact.spec.details, task_of(task_name)
    metrics = [Metric.from_json(record) for record in (rows[0]["metrics"] if rows else [])]
    own, teacher = cost
    params, macs, size = counted_cells(vars(own), vars(teacher))
    lines = [
        "---",
        "library_name: edgetf",
        f"pipeline_tag: {task.pipeline_tag}",
        "---",
        f"# {recipe_name}: {spec.kind}, {spec.scheme}",
        "",
        f"Made by edgetf {artifact.manifest.made.get('edgetf')} with the recipe `{recipe_name}`.",
        "",
        "| | |",
        "|--|--|",
        f"| file | `{spec.model_file}`, {size} |",
        f"| parameters | {params} |",
        f"| multiply-accumulates of {own.seq_len} tokens | {macs} |",
        f"| {task.answers} | {_answers(details)} |",
        f"| input | {', '.join(details['inputs'])}, {details['input_dtype']}, up to {details['max_length']} tokens |",
    ]
    if details.get("lengths"):
        lines.append(f"| lengths | {', '.join(map(str, details['lengths']))} tokens, one signature `seq_LENGTH` each |")
    parity = details["parity"]
    lines += [
        f"| against torch | largest difference {parity['max_abs_difference']:.2g}, cosine {parity['cosine']:.4f} |",
        "",
        "## Measured on this file, in its runtime",
        "",
        "| metric | value | 95 % interval | n |",
        "|--|--|--|--|",
    ]
    lines += [f"| {m.name} | {fraction(m)} | {_interval(m)} | {m.n} |" for m in metrics]
    lines += ["", "| device | p50 | p90 | teacher's fp32 ONNX | speed-up | peak RSS | load |", "|--|--|--|--|--|--|--|"]
    lines += [_device_line(row) for row in rows]
    lines += ["", *(f"On its speed: {line}.\n" for line in remarks)]
    lines += [
        "In brackets: against the teacher's fp32 ONNX file. Parameters and multiply-accumulates are counted.",
        "",
        f"`golden.jsonl` holds texts with their ids and {task.output}: an app that gives the same {task.output} runs "
        "the same model.",
        "`evaluation.jsonl`, with the rows behind these numbers, stands beside the teacher's file of the run.",
        "",
        '    edgetf infer . "a text"',
        "",
    ]
    drop = find_metric(metrics, task.drop) if task.drop else None
    if drop is not None and drop.value is not None and drop.ci95 is not None:
        lines.insert(
            7, f"\n{task.headline.capitalize()} drop against its teacher: {drop.value:.4f} (95 %: {_interval(drop)})."
        )
    return "\n".join(lines)


def _answers(details: dict[str, Any]) -> str:
    """The names of the outputs, or how a vector is made."""
    pooling = details.get("pooling")
    if pooling is None:
        return ", ".join(details["label_names"])
    source = "mean of the unpadded tokens" if pooling["tokens"] == "mean" else "first token"
    return f"{source}, of length 1" if pooling["normalize"] else source


def _interval(metric: Metric) -> str:
    return f"{metric.ci95[0]:.4f} to {metric.ci95[1]:.4f}" if metric.ci95 else "–"


def _device_line(row: dict[str, Any]) -> str:
    if row["how"] in AWAY:
        return f"| {row['device']} | {'; '.join(row['why'])} | | | | | |"
    processor = row["machine"].get("processor", "")
    reference = row["reference"]["latency_p50_ms"] if row["reference"] else None
    speedup = f"{row['speedup']:.2f} ×" if row["speedup"] else "–"
    rss = mebibytes(row["peak_rss_bytes"]) if row["peak_rss_bytes"] else "–"
    return (
        f"| {row['device']} ({processor}), {row['threads']} thread, {row['seq_len']} tokens "
        f"| {milliseconds(row['latency_p50_ms'])} | {milliseconds(row['latency_p90_ms'])} "
        f"| {milliseconds(reference)} | {speedup} | {rss} | {milliseconds(row['load_ms'])} |"
    )
