"""How a ladder is shown: a row a file, in the terminal and in Markdown, with what speaks against each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgetf.commands.output import exit_code_of_run
from edgetf.report.cells import LADDER_COLUMNS, ladder_cells, ladder_title
from edgetf.report.markdown import run_markdown
from edgetf.report.table import run_tables
from edgetf.validation.rungs import SLOWER

GOLDEN = Path(__file__).parents[1] / "golden" / "report.json"


def rung(name: str, drop: float, latency: float, refused: str | None = None, **fields: Any) -> dict[str, Any]:
    """As a report holds it."""
    metrics = [
        {"name": "accuracy_drop", "value": drop, "unit": "fraction", "n": 100, "ci95": [drop, drop]},
        {"name": "agreement", "value": 0.98, "unit": "fraction", "n": 100, "ci95": [0.9, 1.0]},
        {"name": "mcnemar_p", "value": 0.5, "unit": "probability", "n": 100, "ci95": None},
    ]
    return {
        "name": name, "scheme": "w8a8_dynamic", "size_ratio": 0.253, "latency_ratio": latency, "quantized_share": 1.0,
        "trusted": True, "shifts": {"batch": 0.0123, "padding": 0.01}, "metrics": metrics, "refused": refused, **fields,
    }  # fmt: skip


def ladder(*rungs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    given = {"member": None, "format": "onnx", "accuracy_drop": 0.01, "met": True, "chosen": rungs[0]["name"]}
    return {**given, "front": [rungs[0]["name"]], "rungs": list(rungs), "failed": {}, **fields}


KEPT = ladder(
    rung("dynamic", 0.004, 0.45),
    rung("static-min_max", 0.031, 0.5, "loses 0.0310", shifts={"batch": None, "padding": None}, quantized_share=None),
    rung("smooth-dynamic-float-16", 0.0, 1.2, SLOWER),
    failed={
        "qat-static": "onnx-w8a8: cosine 0.912 with the logits of torch, allowed: 0.95 or more; quantization broke"
    },
)
MISSED = ladder(rung("dynamic", 0.02, 0.5, "loses 0.0200"), met=False, member="3x")


def test_a_row_a_file() -> None:
    first, second, third, last = ladder_cells(KEPT)
    assert all(len(row) == len(LADDER_COLUMNS) for row in (first, second, third, last))
    assert first == ("onnx-dynamic", "w8a8_dynamic", "+0.0040", "0.9800", "0.5000", "0.253", "0.45", "1.00", "0.01",
                     "chosen, on the front")  # fmt: skip
    assert second[-3:] == ("–", "–", "loses 0.0310")
    assert third[-1] == SLOWER
    assert last == ("onnx-qat-static", *["–"] * 8, "refused: cosine 0.912 with the logits of torch")


def test_what_is_chosen_though_it_loses_says_so() -> None:
    assert ladder_cells(MISSED)[0][-1] == "chosen, loses 0.0200, on the front"


def test_the_title_says_what_was_asked() -> None:
    assert ladder_title(KEPT) == "ladder, onnx: accuracy_drop=0.01 on the dev rows"
    assert ladder_title(MISSED) == (
        "ladder, 3x, onnx: accuracy_drop=0.01 on the dev rows; no file keeps it, the best so far is taken"
    )


@pytest.fixture
def report() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return {**record, "ladder": [KEPT, MISSED]}


def test_markdown_has_a_table_for_each(report: dict[str, Any]) -> None:
    text = run_markdown(report)
    for found in report["ladder"]:
        heading = f"{ladder_title(found)}:\n\n| {' | '.join(LADDER_COLUMNS)} |\n|{'--|' * len(LADDER_COLUMNS)}\n"
        rows = "\n".join(f"| {' | '.join(row)} |" for row in ladder_cells(found))
        assert heading + rows in text


def test_the_terminal_cuts_no_name(report: dict[str, Any]) -> None:
    console = Console(width=160, record=True, color_system=None)
    console.print(run_tables(report))
    shown = console.export_text()
    assert "onnx-smooth-dynamic-float-16" in shown and "…" not in shown
    assert ladder_title(MISSED) in shown


def test_a_report_of_before_has_none(report: dict[str, Any]) -> None:
    del report["ladder"]
    assert "ladder" not in run_markdown(report)


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("not_measured", 0), ("fail", 1)])
def test_the_exit_code_is_that_of_the_verdict(report: dict[str, Any], verdict: str, code: int) -> None:
    """Also where every row passes, because what may be lost of the accuracy is no budget of a row."""
    passing = [{**variant, "devices": [{**row, "verdict": "pass", "problems": []} for row in variant["devices"]]}
               for variant in report["variants"]]  # fmt: skip
    assert exit_code_of_run({**report, "variants": passing, "verdict": verdict}) == code
