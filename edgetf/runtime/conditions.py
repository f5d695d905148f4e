"""What the machine was like while something was timed: clock, temperature, throttling, other work, pinning.

A time without these is hard to repeat. What a system does not tell is None: containers and virtual machines hide clocks
and temperatures, and only some boards say that they throttle.

Sources: proc(5) (/proc/stat counts the time of every core in hundredths of a second, since start), the kernel's CPU
frequency and thermal documentation (kHz, thousandths of a degree), and Raspberry Pi's documentation of `get_throttled`,
whose lowest four bits say under-voltage, frequency capped, throttled, soft temperature limit.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CPUS = Path("/sys/devices/system/cpu")
_ZONES = Path("/sys/class/thermal")
_STAT = Path("/proc/stat")
_FIRMWARE = ("/sys/devices/platform/soc/soc:firmware/get_throttled",)
_THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


@dataclass(frozen=True)
class Snapshot:
    """One look at the machine; seconds are counted from some fixed moment."""

    wall: float
    own_cpu: float  # of this process, over all its threads
    busy: float | None  # of all cores together
    stolen: float | None  # taken by the host of a virtual machine, of all cores together
    preempted: int  # times that this process was put aside for another one
    clock_mhz: float | None
    temperature_c: float | None


def snapshot() -> Snapshot:
    """Look at the machine now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    busy, stolen = _core_seconds()
    return Snapshot(
        time.monotonic(), usage.ru_utime + usage.ru_stime, busy, stolen, usage.ru_nivcsw, clock_mhz(), temperature_c()
    )


def conditions(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What happened between two looks; `other_cores` is how many cores the work of others took on average."""
    wall = max(after.wall - before.wall, 1e-9)
    others = stolen = None
    if before.busy is not None and after.busy is not None:
        others = max(0.0, (after.busy - before.busy - (after.own_cpu - before.own_cpu)) / wall)
    if before.stolen is not None and after.stolen is not None:
        stolen = max(0.0, (after.stolen - before.stolen) / wall)
    return {
        "seconds": round(wall, 2),
        "cores": os.cpu_count(),
        "pinned_to": pinned_to(),
        "governor": governor(),
        "clock_mhz": _both(before.clock_mhz, after.clock_mhz),
        "temperature_c": _both(before.temperature_c, after.temperature_c),
        "throttled": throttled(),
        "other_cores": None if others is None else round(others, 2),
        "stolen_cores": None if stolen is None else round(stolen, 2),
        "preempted": after.preempted - before.preempted,
    }


def clock_mhz() -> float | None:
    """The highest clock of any core at this moment."""
    clocks = [_number(path) for path in _CPUS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known = [clock for clock in clocks if clock is not None]
    return round(max(known) / 1e3, 1) if known else None


def governor() -> str | None:
    """The frequency governors in use, such as "performance"."""
    found = {_text(path) for path in _CPUS.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {None}
    return ", ".join(sorted(word for word in found if word)) or None


def temperature_c() -> float | None:
    """The hottest zone."""
    zones = [_number(path) for path in _ZONES.glob("thermal_zone*/temp")]
    known = [zone / 1e3 for zone in zones if zone is not None and -40e3 < zone < 150e3]  # others are sensors that fail
    return round(max(known), 1) if known else None


def throttled() -> list[str] | None:
    """Why a Raspberry Pi runs slower than it could, in words; None where the system does not say."""
    for place in _FIRMWARE:
        with suppress(ValueError):  # another firmware may say it otherwise
            bits = int(_text(Path(place)) or "", 16)
            return [word for bit, word in enumerate(_THROTTLED) if bits >> bit & 1]
    return None


def pinned_to() -> list[int] | None:
    """The cores that this process may run on, where that is not all of them."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores if len(cores) < (os.cpu_count() or 1) else None


def _core_seconds() -> tuple[float | None, float | None]:
    """Busy and stolen seconds of all cores together."""
    line = (_text(_STAT) or "").split("\n", 1)[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None, None
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in line[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, steal / tick


def _both(before: float | None, after: float | None) -> list[float] | None:
    return None if before is None or after is None else [before, after]


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None
