"""A board's findings as the hardware part of a profile: each figure with the file that gave it, and nothing guessed."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from edgetf.targets.interpreter import Interpreter
from edgetf.targets.probe import Findings

# Arm Ltd's part numbers, as Linux has them in arch/arm64/include/asm/cputype.h.
_ARM_LTD = "0x41"
_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE", "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510", "0xd47": "Cortex-A710", "0xd48": "Cortex-X2", "0xd49": "Neoverse-N2",
    "0xd4d": "Cortex-A715", "0xd4e": "Cortex-X3", "0xd4f": "Neoverse-V2", "0xd80": "Cortex-A520",
    "0xd81": "Cortex-A720",
}  # fmt: skip
# Of a hundred flags those that a kernel of a runtime may ask for.
_X86 = r"sse4_[12]|avx\w*|fma|f16c|amx\w*"
_ARM = r"fp|fphp|asimd\w*|aes|crc32|sve\w*|sme\w*|\w*i8mm|\w*bf16"
_LEVELS = {("1", "Data"): "L1d", ("1", "Instruction"): "L1i", ("2", "Unified"): "L2", ("3", "Unified"): "L3"}
_KIB = {"K": 1, "M": 1024}


def hardware_of(found: Findings, source: str) -> dict[str, Any]:
    """Instructions, cores, caches and memory; `source` says the tool and the date."""
    tree: dict[str, Any] = {"instructions": _instructions(found), "cores": _cores(found, source)}
    tree["caches"] = _caches(found, source)
    if found.memory_kib is not None:
        size = round(found.memory_kib / (1 << 20), 2)
        tree["memory"] = {"sizes_gib": [size], "source": f"{source}, /proc/meminfo MemTotal: what the system may use"}
    return {name: value for name, value in tree.items() if value}


def notes_of(found: Findings, there: Interpreter, source: str) -> list[str]:
    """What is known beside the figures."""
    versions = [f"{name} {record['version']}" for name, record in found.runtimes.items() if record.get("version")]
    libc = f"glibc {there.glibc}" if there.glibc else "another C library than glibc"
    notes = [f"{source}: Python {there.python}, {libc}" + "".join(f", {each}" for each in versions)]
    governors = sorted({value for path, value in found.values.items() if path.endswith("/scaling_governor")})
    if governors:
        notes.append(f"Governor when it was added: {', '.join(governors)} (cpufreq/scaling_governor)")
    notes += [f"{command} said when it was added: {words}" for command, words in found.said.items() if " " in command]
    if zones := sorted({value for path, value in found.values.items() if "/thermal_zone" in path}):
        notes.append(f"Temperatures: /sys/class/thermal, {', '.join(zones)}")
    return notes


def title_of(found: Findings) -> str:
    """What the board calls itself."""
    name = found.model or next((block["model name"] for block in found.cpuinfo if "model name" in block), "a board")
    host = found.said.get("hostname")
    return f"{name} ({host})" if host else name


def _instructions(found: Findings) -> list[str]:
    """Those that decide on speed and that every core has, spelled as /proc/cpuinfo spells them."""
    decide = re.compile(_ARM if any("Features" in block for block in found.cpuinfo) else _X86)
    each = [(block.get("Features") or block.get("flags") or "").split() for block in found.cpuinfo]
    every = [flag for flag in each[0] if all(flag in others for others in each)] if each else []
    return [flag for flag in every if decide.fullmatch(flag)]


def _cores(found: Findings, source: str) -> list[dict[str, Any]]:
    """Kinds of cores, the fastest first."""
    kinds = Counter((_core(block), _clock(found, block["processor"])) for block in found.cpuinfo)
    return [
        {"model": model, "count": count, **({"clock_mhz": clock} if clock else {}),
         "source": f"{source}, /proc/cpuinfo" + (" and cpufreq/cpuinfo_max_freq" if clock else "")}
        for (model, clock), count in sorted(kinds.items(), key=lambda kind: -(kind[0][1] or 0))
    ]  # fmt: skip


def _core(block: dict[str, str]) -> str:
    if "CPU part" not in block:
        return block.get("model name", "not named")
    maker, part = block.get("CPU implementer", ""), block["CPU part"]
    return _PARTS.get(part, f"Arm part {part}") if maker == _ARM_LTD else f"implementer {maker} part {part}"


def _clock(found: Findings, processor: str) -> float | None:
    khz = found.values.get(f"/sys/devices/system/cpu/cpu{processor}/cpufreq/cpuinfo_max_freq", "")
    return int(khz) / 1000 if khz.isdigit() else None


def _caches(found: Findings, source: str) -> list[dict[str, Any]]:
    """Every size of every level once."""
    rows: dict[tuple[str, float, str], None] = {}
    for path, level in found.values.items():
        fits = re.fullmatch(r"(/sys/devices/system/cpu/cpu\d+)/cache/index\d+/level", path)
        size = re.fullmatch(r"(\d+)([KM])", found.values.get(path.replace("/level", "/size"), ""))
        name = _LEVELS.get((level, found.values.get(path.replace("/level", "/type"), "")))
        if fits and size and name:
            shared = found.values.get(path.replace("/level", "/shared_cpu_list"), "")
            siblings = found.values.get(f"{fits[1]}/topology/thread_siblings_list", "")
            rows[name, int(size[1]) * _KIB[size[2]], _shared(shared, siblings, len(found.cpuinfo))] = None
    place = "/sys/devices/system/cpu/cpu*/cache"
    return [{"level": level, "kib": kib, "shared_by": by, "source": f"{source}, {place}"} for level, kib, by in rows]


def _shared(shared: str, siblings: str, processors: int) -> str:
    """Who shares a cache, from the kernel's lists of processors, such as 0-3 or 0,4."""
    count = _count(shared)
    if count <= 1 or shared == siblings:
        return "core"
    return "all" if count == processors else "cluster"


def _count(processors: str) -> int:
    """How many there are in such a list.

    >>> _count("0-3"), _count("0,4"), _count("")
    (4, 2, 0)
    """
    ends = [part.split("-") for part in processors.split(",") if part]
    return sum(int(each[-1]) - int(each[0]) + 1 for each in ends)
