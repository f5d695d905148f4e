"""``edgetf targets``: what is set up to reach devices that are not this machine."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from edgetf.commands.output import print_json
from edgetf.core.device import device_names, load_device
from edgetf.core.errors import EXIT_FINE, ConfigError, DeviceError, near_match
from edgetf.core.reach import TargetKind
from edgetf.report.table import console
from edgetf.targets import arm64_root

SETUPS = (arm64_root.NAME,)


@dataclass(frozen=True)
class State:
    """Whether a way to reach devices is ready, and what it lacks."""

    target: str
    ready: bool
    devices: list[str]
    note: str


def targets_command(as_json: bool) -> int:
    """Every way to reach a device, whether it is ready, and what is missing."""
    states = [_emulated(), _tool("ssh", "openssh-client"), _tool("adb", "adb")]
    if as_json:
        print_json({"schema": 1, "targets": [asdict(state) for state in states]})
        return EXIT_FINE
    table = Table()
    for column in ("target", "ready", "devices", "note"):
        table.add_column(column)
    for state in states:
        cells = (state.target, "yes" if state.ready else "no", ", ".join(state.devices) or "–", state.note)
        table.add_row(*map(Text, cells))
    console().print(table)
    return EXIT_FINE


def setup_command(name: str, as_json: bool) -> int:
    """Make what a target needs, in the cache folder."""
    if name not in SETUPS:
        raise ConfigError(f"targets setup {name}: not a target that is set up{near_match(name, SETUPS)}")
    started = time.monotonic()
    root = arm64_root.make_root(lambda part: print(f"{name}: {part}", file=sys.stderr, flush=True))
    document: dict[str, Any] = {
        "schema": 1,
        "target": name,
        "folder": str(root.folder),
        "python": root.python,
        "versions": root.versions,
        "seconds": round(time.monotonic() - started, 1),
    }
    print_json(document) if as_json else print(f"{name}: ready in {root.folder}, {document['seconds']} s")
    return EXIT_FINE


def _emulated() -> State:
    try:
        root = arm64_root.find_root()
    except DeviceError as error:
        return State(arm64_root.NAME, False, _devices("emulated"), str(error).partition(": ")[2])
    wheels = ", ".join(f"{name} {root.versions[name]}" for name in arm64_root.WHEELS if name in root.versions)
    return State(arm64_root.NAME, True, _devices("emulated"), wheels)


def _tool(name: TargetKind, package: str) -> State:
    """A target that a program of this machine reaches."""
    found = shutil.which(name)
    return State(name, found is not None, _devices(name), found or f"not installed; run: apt-get install {package}")


def _devices(kind: TargetKind) -> list[str]:
    return [name for name in device_names() if load_device(name).target == kind]
