"""``edgetf compress``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from edgetf.commands.output import exit_code_of_run, print_json
from edgetf.commands.reports import say_unmeasured
from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.load import load_recipe, recipe_names
from edgetf.config.schema import AnyRecipe
from edgetf.core.errors import EXIT_FINE, ConfigError, needs
from edgetf.core.launcher import launched, started_one_of_several
from edgetf.core.part import Part
from edgetf.core.quiet import quiet
from edgetf.pipeline.forecast import Step
from edgetf.pipeline.language.plan import LanguagePlan, make_language_plan
from edgetf.pipeline.language.run import execute_language
from edgetf.pipeline.outputs import execute_outputs
from edgetf.pipeline.plan import Plan, make_plan
from edgetf.pipeline.run import execute
from edgetf.report.document import rows_of
from edgetf.report.language_table import language_run_tables
from edgetf.report.progress import Reporter
from edgetf.report.table import console, run_tables
from edgetf.report.words import seconds


def split_recipe(words: list[str]) -> tuple[str, list[str]]:
    """The recipe's name, and the overrides.

    Raises:
        ConfigError: there is no ``recipe=``, or there are two.
    """
    names = [word.removeprefix("recipe=") for word in words if word.startswith("recipe=")]
    if len(names) != 1 or not names[0]:
        raise ConfigError(f"compress: got {len(names)} recipes, write recipe=NAME; known: {', '.join(recipe_names())}")
    return names[0], [word for word in words if not word.startswith("recipe=")]


@dataclass(frozen=True)
class Asked:
    """What the command line says; `words` are ``recipe=NAME`` and the overrides."""

    words: list[str]
    out: Path | None
    dry_run: bool
    fresh: bool
    allow_larger: bool
    teacher_outputs: str | None
    require_measured: bool
    as_json: bool


def compress_command(asked: Asked) -> int:
    """Run a recipe, with all the processes that a launcher started; 1 if no variant keeps the budget."""
    if launched() == 1:
        return _compress(asked)
    with needs("compress"), quiet():
        from edgetf.training.processes import together
    return together(partial(_compress, asked))


def _compress(asked: Asked) -> int:
    name, overrides = split_recipe(asked.words)
    recipe = load_recipe(name, overrides)
    if isinstance(recipe, LanguageRecipe):
        return _compress_language(asked, recipe)
    part = None if asked.teacher_outputs is None else Part.read(asked.teacher_outputs, "--teacher-outputs")
    plan = make_plan(recipe, asked.allow_larger)
    if asked.dry_run:
        print_json(plan.to_json()) if asked.as_json else _print_plan(plan)
        return EXIT_FINE
    reporter = _begin(_headline(plan))
    folder = asked.out or Path("runs") / recipe.name
    if part is not None:
        made = execute_outputs(plan, folder, part, asked.fresh, reporter)
        where = f"part {asked.teacher_outputs} of the teacher's outputs is in {made['cache']}"
        print_json(made) if asked.as_json else print(where)
        return EXIT_FINE
    return _end(asked, execute(plan, folder, asked.fresh, reporter), run_tables)


def _compress_language(asked: Asked, recipe: LanguageRecipe) -> int:
    if asked.teacher_outputs is not None:
        raise ConfigError(
            "--teacher-outputs: shares out a classifier's outputs; those of a language model are cached by the distill "
            "stage itself, leave it out"
        )
    plan = make_language_plan(recipe, asked.allow_larger)
    if asked.dry_run:
        print_json(plan.to_json()) if asked.as_json else _print_language_plan(plan)
        return EXIT_FINE
    reporter = _begin(_language_headline(plan))
    folder = asked.out or Path("runs") / recipe.name
    return _end(asked, execute_language(plan, folder, asked.fresh, reporter), language_run_tables)


def _begin(headline: str) -> Reporter:
    """A reporter that has said what will be done."""
    reporter = Reporter()
    reporter.say(headline)
    if started_one_of_several():
        reporter.say("one process was started; on CPUs, too, accelerate starts several with --multi_gpu, or by mpirun")
    return reporter


def _end(asked: Asked, record: dict[str, Any], tables: Callable[[dict[str, Any]], RenderableType]) -> int:
    """Print the report of a run; gives the exit code."""
    print_json(record) if asked.as_json else console().print(tables(record))
    if asked.require_measured:
        say_unmeasured(rows_of(record))
    return exit_code_of_run(record, asked.require_measured)


def _headline(plan: Plan) -> str:
    data = plan.data
    cleaned = f", {data.duplicates} duplicates removed" if data.duplicates else ""
    total = sum(step.predicted_seconds for step in plan.steps)
    latencies = ", ".join(f"{student.relative_latency:.2f}" for student in plan.students)
    return (
        f"{plan.recipe.name}: {len(data.train)} rows to train, {len(data.dev)} dev, {len(data.test)} to evaluate"
        f"{cleaned}; student predicted at {latencies} of its teacher's fp32 latency; "
        f"about {seconds(total)} in all (predicted)"
    )


def _print_recipe(recipe: AnyRecipe) -> None:
    import yaml

    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100), end="")


def _print_steps(steps: Sequence[Step]) -> None:
    for step in steps:
        print(f"  {step.name:<10} {seconds(step.predicted_seconds):>12}  (predicted)")


def _print_plan(plan: Plan) -> None:
    _print_recipe(plan.recipe)
    print(f"\n{_headline(plan)}\n")
    _print_steps(plan.steps)
    print(f"\nteacher: {plan.teacher.params:,} parameters, {plan.teacher.macs / 1e6:,.0f} million multiply-accumulates")
    for student in plan.students:
        name = "student" if student.name is None else f"student {student.name}"
        cost = student.cost
        print(f"{name}: {cost.params:,} parameters, {cost.macs / 1e6:,.0f} million multiply-accumulates")
    print("variants: " + ", ".join(plan.recipe.variant_names()))
    print("dry run: nothing was started")


def _language_headline(plan: LanguagePlan) -> str:
    corpus = plan.corpus
    cleaned = f", {corpus.duplicates} duplicates removed" if corpus.duplicates else ""
    teacher = "an endpoint" if plan.teacher_params is None else f"{plan.teacher_params:,} parameters"
    total = sum(step.predicted_seconds for step in plan.steps)
    return (
        f"{plan.recipe.name}: {len(corpus.train)} documents to train, {len(corpus.dev)} dev, {len(corpus.test)} to "
        f"evaluate{cleaned}; teacher {teacher}, student {plan.student_params:,} parameters before pruning; "
        f"about {seconds(total)} in all (predicted)"
    )


def _print_language_plan(plan: LanguagePlan) -> None:
    _print_recipe(plan.recipe)
    print(f"\n{_language_headline(plan)}\n")
    _print_steps(plan.steps)
    print("\nvariants: " + ", ".join(plan.recipe.variant_names()))
    print("dry run: nothing was started")
