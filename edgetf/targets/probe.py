"""What a board says of itself: one POSIX shell script that reads the kernel's own files, and tries each runtime.

It needs no Python for the hardware. A runtime is tried in a process of its own, because a broken one may crash.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

from edgetf.targets.shell import Shell

SECONDS = 120.0  # a small board imports four libraries
MODULES = {
    "ort": "onnxruntime",
    "litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "edgetf": "edgetf.runtime.runner",
}
_MARK = "@@ "
_CPU = "/sys/devices/system/cpu/cpu[0-9]*"
_VALUES = (
    f"{_CPU}/cpufreq/cpuinfo_max_freq",
    f"{_CPU}/cpufreq/scaling_governor",
    f"{_CPU}/topology/thread_siblings_list",
    *(f"{_CPU}/cache/index*/{name}" for name in ("level", "type", "size", "shared_cpu_list")),
    "/sys/class/thermal/thermal_zone*/type",
)
_TRY = """import importlib, json, sys
from importlib.metadata import packages_distributions, version
module = importlib.import_module(sys.argv[1])
top = sys.argv[1].split(".")[0]
try: found = version((packages_distributions().get(top) or [top])[0])
except Exception: found = None
providers = getattr(module, "get_available_providers", list)()
print(json.dumps({"version": found, "providers": providers}))
"""


@dataclass(frozen=True)
class Findings:
    """What was found, in the kernel's own words."""

    cpuinfo: list[dict[str, str]] = field(default_factory=list)  # one record a processor
    memory_kib: int | None = None
    values: dict[str, str] = field(default_factory=dict)  # one-line files by their path
    model: str = ""  # as the device tree names the board
    said: dict[str, str] = field(default_factory=dict)  # what commands wrote
    runtimes: dict[str, dict[str, Any]] = field(default_factory=dict)  # those that can be imported, by backend


def probe(shell: Shell, python: str) -> Findings:
    """Ask a board.

    Raises:
        DeviceError: it cannot be reached, or went away.
    """
    return findings(shell.run(script(python), SECONDS).out)


def script(python: str) -> str:
    """The shell script; each part of what it writes begins with a marked line."""
    trial = shlex.quote(_TRY)
    return "\n".join(
        [
            "LC_ALL=C; export LC_ALL",
            'part() { printf "\\n@@ %s\\n" "$*"; }',
            "part cpuinfo; cat /proc/cpuinfo 2>/dev/null",
            "part meminfo; cat /proc/meminfo 2>/dev/null",
            "part model; tr -d '\\000' 2>/dev/null < /proc/device-tree/model",
            f"part values; grep -s . /dev/null {' '.join(_VALUES)}",
            "part hostname; uname -n",
            "if command -v vcgencmd >/dev/null; then part vcgencmd get_throttled; vcgencmd get_throttled; fi",
            "if command -v nvpmodel >/dev/null; then part nvpmodel -q; nvpmodel -q; fi",
            *(f"part try {name}; {shlex.quote(python)} -c {trial} {module} 2>/dev/null"
              for name, module in MODULES.items()),
            "exit 0",
        ]
    )  # fmt: skip


def findings(text: str) -> Findings:
    """What the script wrote, read.

    >>> found = findings("@@ cpuinfo\\nprocessor : 0\\nCPU part : 0xd08\\n\\n@@ meminfo\\nMemTotal: 3884 kB\\n")
    >>> found.cpuinfo, found.memory_kib
    ([{'processor': '0', 'CPU part': '0xd08'}], 3884)
    """
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(_MARK):
            lines = parts.setdefault(line.removeprefix(_MARK), [])
        else:
            lines.append(line)
    memory = [line.split() for line in parts.get("meminfo", ()) if line.startswith("MemTotal")]
    runtimes = {name: record for name in MODULES if (record := _record(parts.get(f"try {name}", [])))}
    return Findings(
        cpuinfo=_processors(parts.get("cpuinfo", [])),
        memory_kib=int(memory[0][1]) if memory else None,
        values=dict(_value(line) for line in parts.get("values", ()) if ":" in line),
        model=" ".join(parts.get("model", ())).strip(),
        said={name: " ".join(" ".join(said).split()) for name, said in parts.items() if name in _SAYS},
        runtimes=runtimes,
    )


_SAYS = ("hostname", "vcgencmd get_throttled", "nvpmodel -q")


def _value(line: str) -> tuple[str, str]:
    path, _, value = line.partition(":")
    return path, value.strip()


def _processors(lines: list[str]) -> list[dict[str, str]]:
    """Blocks of /proc/cpuinfo that describe a processor; what stands after them, such as a Pi's serial, is left."""
    blocks: list[dict[str, str]] = [{}]
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            blocks.append({})
        else:
            blocks[-1][name.strip()] = value.strip()
    return [block for block in blocks if "processor" in block]


def _record(lines: list[str]) -> dict[str, Any] | None:
    """What a trial wrote last, or None where the import failed."""
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None
