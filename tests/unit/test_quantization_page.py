"""docs/quantization.md says what the code does: its table is the one by which recipes are refused."""

from __future__ import annotations

from pathlib import Path

from edgetf.core.schemes import SCHEMES
from edgetf.core.support import SUPPORT, Support

REPOSITORY = Path(__file__).resolve().parents[2]


def cell(found: Support | None) -> str:
    """What the page writes of a scheme in a runtime."""
    if found is None:
        return "refused"
    more = [found.granularity or "", f"{found.capability:g}" if found.capability else ""]
    return ", ".join([found.how, *filter(None, more)])


def test_the_table_of_the_page_is_that_of_the_code() -> None:
    page = (REPOSITORY / "docs" / "quantization.md").read_text(encoding="utf-8")
    lines = [f"| scheme | {' | '.join(f'`{runtime}`' for runtime in SUPPORT)} |", "|" + "--|" * (len(SUPPORT) + 1)]
    lines += [f"| `{s}` | {' | '.join(cell(found.get(s)) for found in SUPPORT.values())} |" for s in SCHEMES]
    assert "\n".join(lines) in page


def test_every_scheme_is_decoded() -> None:
    readme = (REPOSITORY / "recipes" / "README.md").read_text(encoding="utf-8")
    assert [scheme for scheme in SCHEMES if f"`{scheme}`" not in readme] == []
