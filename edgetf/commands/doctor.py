"""``edgetf doctor``."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

from edgetf.commands.output import print_json
from edgetf.core.errors import EXIT_FINE
from edgetf.core.made import load_average, machine, made_with, versions
from edgetf.core.places import cache_folder, shipped
from edgetf.report.table import console

_EXTRA = re.compile(r"extra == ['\"](\w+)['\"]")


def extras() -> dict[str, list[Requirement]]:
    """What each extra asks for, from the installed metadata."""
    table: dict[str, list[Requirement]] = {}
    try:
        lines = requires("edgetf") or []
    except PackageNotFoundError:
        lines = []
    for line in lines:
        requirement = Requirement(line)
        found = _EXTRA.search(line)
        table.setdefault(found.group(1) if found else "base", []).append(requirement)
    return table


def state_of(requirement: Requirement) -> tuple[str, str]:
    """The installed version ("" for none), and what is wrong with it ("" for nothing)."""
    got = versions(requirement.name).get(requirement.name, "")
    if not got:
        return "", "missing"
    fits = requirement.specifier.contains(got, prereleases=True)
    return got, "" if fits else f"wants {requirement.specifier}"


def doctor_command(as_json: bool) -> int:
    """Show every extra with its packages and what is missing."""
    found: dict[str, list[dict[str, str]]] = {}
    for extra, needed in extras().items():
        if extra in {"all"}:
            continue
        rows = []
        for requirement in needed:
            if requirement.name == "edgetf":
                continue
            got, problem = state_of(requirement)
            rows.append({"package": requirement.name, "version": got, "problem": problem})
        found[extra] = rows
    document: dict[str, Any] = {
        "schema": 1,
        "made": made_with(),
        "machine": {**machine(), "load_average": load_average()},
        "places": {name: str(shipped(name)) for name in ("recipes", "devices", "calibration_data")},
        "cache": str(cache_folder()),
        "disk_free_bytes": shutil.disk_usage(".").free,
        "extras": found,
    }
    if as_json:
        print_json(document)
        return EXIT_FINE
    _print(document)
    return EXIT_FINE


def _print(document: dict[str, Any]) -> None:
    out = console()
    here = document["machine"]
    out.print(
        f"edgetf {document['made']['edgetf']}, Python {document['made']['python']}; {here['processor']}, "
        f"{here['cores']} cores ({', '.join(here['instructions'])}), {here['memory_mib']} MiB, "
        f"load {here['load_average']}; {document['disk_free_bytes'] / 1e9:.1f} GB free here",
        highlight=False,
    )
    table = Table("extra", "state", "packages")
    for extra, rows in document["extras"].items():
        wrong = [row for row in rows if row["problem"]]
        state = "ready" if not wrong else f"pip install 'edgetf[{extra}]'"
        words = [f"{row['package']} {row['version'] or '–'}{' (' + row['problem'] + ')' if row['problem'] else ''}"
                 for row in rows]  # fmt: skip
        table.add_row(extra, Text(state), ", ".join(words))
    out.print(table)
