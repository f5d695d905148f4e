"""``edgetf validate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from edgetf.commands.output import exit_code_of, print_json
from edgetf.commands.reports import Reports
from edgetf.core.artifact import Artifact, open_verified
from edgetf.core.budget import overall, parse_budget, task_problems
from edgetf.core.device import load_device
from edgetf.core.errors import ConfigError
from edgetf.core.made import made_with
from edgetf.core.task_names import CLASSIFICATION, LANGUAGE_MODELING, AnyTask
from edgetf.report.pages import shown_rows, written_rows
from edgetf.report.progress import Reporter
from edgetf.report.table import console
from edgetf.validation.attempt import OnDevice
from edgetf.validation.language.settings import CONTEXTS, LanguageSettings
from edgetf.validation.language.validate import validate_language
from edgetf.validation.row import DeviceRow, Settings
from edgetf.validation.validate import find_reference, validate

Timing = tuple[int, int, list[int]]  # threads, samples, lengths


def validate_command(
    folder: Path,
    devices: list[str],
    budget_words: list[str],
    reference_folder: Path | None,
    timing: Timing,
    reports: Reports,
) -> int:
    """Measure on every device, print, write the reports, and say by the exit code how it went."""
    reports.check()
    budget = parse_budget(budget_words)
    profiles = [load_device(device) for device in devices]
    artifact = open_verified(folder)
    task = _task(artifact, budget)
    measure = _measure(artifact, task, find_reference(artifact, reference_folder), budget, timing)
    reporter = Reporter()
    rows: list[DeviceRow] = []
    for profile in profiles:
        with reporter.step(f"{folder.name} on {profile.name}"):
            rows.append(measure(profile, lambda done, total: reporter.update(done, total, "evaluation rows")))
        if rows[-1].how in ("not_measured", "predicted"):
            reporter.say(f"edgetf: {profile.name}: {rows[-1].why[0]}")
    if not budget:
        reporter.say("no --budget given: only correctness is judged")
    named = [(artifact.manifest.name, row) for row in rows]
    verdict, written = overall([row.verdict for row in rows]), written_rows(named, task)
    reports.write(f"edgetf {artifact.manifest.name}", verdict, named, written, written)
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
        out.print(shown_rows(named, task))
        for row in rows:
            for why in row.why:
                out.print(f"{row.device}: {why}", markup=False, highlight=False)
    return exit_code_of(rows, reports.require_measured)


def _task(artifact: Artifact, budget: Mapping[str, float]) -> AnyTask:
    """The task of an artifact.

    Raises:
        ConfigError: the budget holds what is measured for another task only.
    """
    name: AnyTask = artifact.spec.details.get("task", CLASSIFICATION)
    problems = task_problems(budget, name)
    if problems:
        raise ConfigError(problems)
    return name


def _measure(
    artifact: Artifact, task: AnyTask, reference: Artifact | None, budget: Mapping[str, float], timing: Timing
) -> OnDevice:
    """How an artifact of this task is measured: at the lengths given, of which a decoder takes several as contexts."""
    threads, samples, lengths = timing
    if task == LANGUAGE_MODELING:
        asked = LanguageSettings(threads, samples, tuple(lengths) or CONTEXTS)
        return lambda device, tick: validate_language(artifact, device, reference, budget, asked, tick)
    settings = Settings(threads, samples, next(iter(lengths), None), tuple(lengths[1:]))
    return lambda device, tick: validate(artifact, device, reference, budget, settings, tick)
