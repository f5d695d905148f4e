"""The folders that users take away: an exported file, measured on every device, with its card and its numbers."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.config.recipe import Recipe
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.files import read_json, write_json
from edgetf.core.metrics import Metric
from edgetf.core.progress import Report
from edgetf.report.card import card
from edgetf.report.cost import counted, variant_remarks
from edgetf.stages.context import Context
from edgetf.targets.target import Tick
from edgetf.tasks import task_of
from edgetf.validation.attempt import OnDevice
from edgetf.validation.evaluation import Evaluation, write_evaluation
from edgetf.validation.golden import deployable_model, runtime_logits
from edgetf.validation.judge import judged
from edgetf.validation.row import AWAY, DeviceRow, Settings, row_from_json
from edgetf.validation.validate import validate

ROWS = "validation.json"
REFERENCE = "../teacher-onnx-fp32"


def deliver_reference(
    exported: Artifact, context: Context, settings: Settings, report: Report, out: Path
) -> tuple[Spec, float]:
    """The teacher's fp32 ONNX file with the evaluation rows and its own logits on them."""
    started = time.monotonic()
    link(exported, out)
    test = context.data.test
    report(0, 2, f"the teacher answers {len(test)} evaluation rows")
    answer = runtime_logits(deployable_model(exported), test.texts, test.pairs, settings.threads)
    name, names = context.recipe.task, tuple(context.data.label_names)
    labels = task_of(name).labels(test.labels if task_of(name).labelled else [])
    rows = Evaluation(test.texts, test.pairs, labels, np.asarray(answer["logits"]), name, names)
    write_evaluation(out, rows)
    metrics = rows.compare(rows.teacher_logits)
    report(1, 2, "timing it")
    timed = validate(exported, load_device("host"), None, {}, settings)
    timed.metrics = [metric.to_json() for metric in metrics]
    timed.peak_rss_bytes, timed.load_ms = answer["peak_rss_bytes"], round(answer["load_ms"], 2)
    return _describe(out, exported, [timed], metrics), time.monotonic() - started


def deliver_variant(
    exported: Artifact,
    reference: Artifact,
    devices: list[DeviceProfile],
    settings: Settings,
    recipe: Recipe,
    made_by: str,
    report: Report,
    out: Path,
) -> tuple[Spec, float]:
    """A variant of the model that a stage of the kind `made_by` made, with its numbers on every device and its card."""
    started = time.monotonic()
    link(exported, out)

    def measure(device: DeviceProfile, tick: Tick) -> DeviceRow:
        return validate(exported, device, reference, recipe.budget, settings, tick)

    rows, metrics = on_every(devices, "rows", measure, report)
    spec = _describe(out, exported, rows, metrics)
    spec = replace(spec, details={**spec.details, "reference": REFERENCE})
    seq_len = settings.seq_len or recipe.data.max_length
    own, teacher = counted(exported, seq_len), counted(reference, seq_len)
    said = variant_remarks(made_by, own, teacher, rows)
    text = card(exported, [asdict(row) for row in rows], recipe.name, recipe.task, (own, teacher), said)
    (out / "README.md").write_text(text, encoding="utf-8")
    return spec, time.monotonic() - started


def on_every(
    devices: list[DeviceProfile], what: str, measure: OnDevice, report: Report
) -> tuple[list[DeviceRow], list[Metric]]:
    """A row of every device, and the metrics of the first that answered; `what` is counted while they do.

    The bounds on time say whether a second timing is worth it; rows are kept unjudged, as other bounds may change.
    """
    rows = []
    for device in devices:

        def tick(done: int, total: int, name: str = device.name) -> None:
            report(done, total, f"{what} on {name}")

        rows.append(judged(measure(device, tick), {}))
    measured = next((row for row in rows if row.how not in AWAY), None)
    return rows, [Metric.from_json(record) for record in measured.metrics] if measured else []


def _describe(out: Path, exported: Artifact, rows: list[DeviceRow], metrics: list[Metric]) -> Spec:
    write_json(out / ROWS, [asdict(row) for row in rows])
    return replace(exported.spec, metrics=tuple(metrics))


def link(exported: Artifact, out: Path) -> None:
    """The exported files again, as hard links where the file system has them."""
    for entry in exported.manifest.files:
        target = out / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(exported.path / entry.path, target)
        except OSError:
            shutil.copyfile(exported.path / entry.path, target)


def read_rows(artifact: Artifact) -> list[DeviceRow]:
    """The device rows of a delivered artifact; none for another kind."""
    path = artifact.path / ROWS
    if not path.is_file():
        return []
    records: list[dict[str, Any]] = read_json(path)
    return [row_from_json(record) for record in records]
