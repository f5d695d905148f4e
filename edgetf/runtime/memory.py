"""How much memory this process holds, and the most that it has held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """The most memory this process has held; the kernel's own high-water mark where it gives one."""
    # getrusage also counts what the parent held when it forked, so it is only the second choice.
    scale = 1 if sys.platform == "darwin" else 1024
    return _kibibytes("VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def rss_bytes() -> int | None:
    """The memory this process holds now, or None where the system does not tell."""
    return _kibibytes("VmRSS:")


def _kibibytes(field: str) -> int | None:
    """A line of /proc/self/status in bytes, see proc(5)."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)
