"""docs/prediction.md says what the code does, and shows what the benchmark printed."""

from __future__ import annotations

from pathlib import Path

from edgetf.predict.roofline import REPEATS, TERMS
from edgetf.stages.probe_shapes import PROBES

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "prediction.md").read_text(encoding="utf-8")


def test_the_page_names_every_term_of_the_formula_and_its_figures() -> None:
    assert [term for term in TERMS if f"| `{term}` |" not in PAGE] == []
    assert f"r = {REPEATS} was" in PAGE
    assert len(PROBES) == 12 and "twelve random encoders" in PAGE


def test_every_table_of_results_on_the_page_is_what_the_benchmark_wrote() -> None:
    written = (REPOSITORY / "benchmarks" / "results" / "prediction.md").read_text(encoding="utf-8").splitlines()
    shown = PAGE[PAGE.index("## How well it works") :].splitlines()
    rows = [line for line in shown if line.startswith("|")]
    assert rows
    assert [row for row in rows if row not in written] == []
