"""A benchmark in sections: each is written as soon as it is done, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetf.core.made import machine, made_with

Tree = dict[str, Any]


def run_sections(
    names: Sequence[str],
    sections: Mapping[str, Callable[[], Tree]],
    packages: Sequence[str],
    result: Path,
    markdown: Callable[[Tree], str],
    about: Tree | None = None,
) -> None:
    """Measure the named sections, or those that are not in the results yet; write `result` and the table beside it.

    Each keeps the versions of `packages`, the machine and what is told `about` it.
    """
    unknown = [name for name in names if name not in sections]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not a section; allowed: {', '.join(sections)}")
    results: Tree = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
    for name in names or [name for name in sections if name not in results]:
        record = {**(about or {}), "made": made_with(*packages), "machine": machine()}
        results[name] = {**record, "rows": sections[name]()}
        result.parent.mkdir(exist_ok=True)
        result.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        result.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    print(markdown(results))
