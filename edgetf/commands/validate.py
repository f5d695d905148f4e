"""``edgetf validate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from edgetf.commands.output import exit_code_of, print_json
from edgetf.commands.reports import Reports
from edgetf.core.artifact import Artifact, open_verified
from edgetf.core.budget import overall, parse_budget, task_problems
from edgetf.core.device import load_device
from edgetf.core.errors import ConfigError
from edgetf.core.made import made_with
from edgetf.core.task_names import CLASSIFICATION
from edgetf.report.markdown import rows_markdown
from edgetf.report.progress import Reporter
from edgetf.report.table import console, device_table
from edgetf.tasks import task_of
from edgetf.tasks.task import Task
from edgetf.validation.row import DeviceRow, Settings
from edgetf.validation.validate import find_reference, validate


def validate_command(
    folder: Path,
    devices: list[str],
    budget_words: list[str],
    reference_folder: Path | None,
    timing: tuple[int, int, list[int]],
    reports: Reports,
) -> int:
    """Measure on every device, print, write the reports, and say by the exit code how it went."""
    reports.check()
    budget = parse_budget(budget_words)
    profiles = [load_device(device) for device in devices]
    artifact = open_verified(folder)
    task = _task(artifact, budget)
    reference = find_reference(artifact, reference_folder)
    reporter = Reporter()
    rows: list[DeviceRow] = []
    for profile in profiles:
        with reporter.step(f"{folder.name} on {profile.name}"):
            threads, samples, lengths = timing
            settings = Settings(threads, samples, next(iter(lengths), None), tuple(lengths[1:]))

            def tick(done: int, total: int) -> None:
                reporter.update(done, total, "evaluation rows")

            rows.append(validate(artifact, profile, reference, budget, settings, tick))
        if rows[-1].how in ("not_measured", "predicted"):
            reporter.say(f"edgetf: {profile.name}: {rows[-1].why[0]}")
    if not budget:
        reporter.say("no --budget given: only correctness is judged")
    named = [(artifact.manifest.name, row) for row in rows]
    verdict = overall([row.verdict for row in rows])
    reports.write(f"edgetf {artifact.manifest.name}", verdict, named, task, rows_markdown(named, task))
    if reports.as_json:
        print_json(
            {
                "schema": 1,
                "artifact": str(folder),
                "name": artifact.manifest.name,
                "made": made_with("onnxruntime", "ai-edge-litert", "tokenizers", "numpy"),
                "budget": budget,
                "require_measured": reports.require_measured,
                "verdict": verdict,
                "devices": [asdict(row) for row in rows],
            }
        )
    else:
        out = console()
        out.print(device_table(named, task))
        for row in rows:
            for why in row.why:
                out.print(f"{row.device}: {why}", markup=False, highlight=False)
    return exit_code_of(rows, reports.require_measured)


def _task(artifact: Artifact, budget: dict[str, float]) -> Task:
    """The task of an artifact.

    Raises:
        ConfigError: the budget holds what is measured for another task only.
    """
    name = artifact.spec.details.get("task", CLASSIFICATION)
    problems = task_problems(budget, name)
    if problems:
        raise ConfigError(problems)
    return task_of(name)
