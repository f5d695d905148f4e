"""What people and CI read, word for word: a change of these files is a change of the contract, made on purpose.

To make them again: ``EDGETF_GOLDEN=write python -m pytest tests/golden``, then read the difference.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from edgetf.config.load import load_recipe, recipe_names
from edgetf.config.recipe import Recipe
from edgetf.core.problems import siblings
from edgetf.report.document import rows_of
from edgetf.report.junit import junit
from edgetf.report.markdown import run_markdown
from edgetf.report.table import run_tables

HERE = Path(__file__).resolve().parent


def assert_golden(name: str, text: str) -> None:
    """The text is that of the golden file."""
    path = HERE / name
    if os.environ.get("EDGETF_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """A finished run's report, with few samples: one variant passes, one fails, one was not measured."""
    record: dict[str, Any] = json.loads((HERE / "report.json").read_text(encoding="utf-8"))
    return record


def test_markdown(report: dict[str, Any]) -> None:
    assert_golden("report.md", run_markdown(report))


def test_junit(report: dict[str, Any]) -> None:
    assert_golden("report.xml", junit(rows_of(report)))


def test_tables(report: dict[str, Any]) -> None:
    console = Console(width=160, record=True, file=io.StringIO(), color_system=None)
    console.print(run_tables(report))
    assert_golden("tables.txt", "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n")


@pytest.mark.parametrize("name", recipe_names())
def test_resolved_recipe(name: str) -> None:
    assert_golden(f"{name}.yaml", yaml.safe_dump(load_recipe(name).model_dump(mode="json"), sort_keys=False))


def test_recipe_fields() -> None:
    assert_golden("fields.txt", "\n".join(sorted(siblings(Recipe, ("",)))) + "\n")
