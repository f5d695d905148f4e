"""With what a number was made: versions, commit, machine. Read without importing the libraries."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgetf import __version__
from edgetf.core.places import checkout


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of the named distributions; what is absent is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of the checkout this package runs from, with "+" where files differ from it."""
    top = checkout()
    if top is None:
        return None
    try:
        head = _git(top, "rev-parse", "--short=12", "HEAD")
        changed = _git(top, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _git(top: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(top), *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def made_with(*packages: str) -> dict[str, Any]:
    """The `made` record of a manifest or a report."""
    return {
        "edgetf": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions(*packages),
    }


def _first_line(path: Path, prefix: str) -> str | None:
    try:
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith(prefix):
                return line.split(":", 1)[1].strip()
    except OSError:
        return None
    return None


def machine() -> dict[str, Any]:
    """What this machine is: architecture, processor, its vector instructions, cores and memory."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = (_first_line(cpuinfo, "flags") or _first_line(cpuinfo, "Features") or "").split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
    memory = _first_line(Path("/proc/meminfo"), "MemTotal")
    return {
        "architecture": platform.machine(),
        "system": platform.system(),
        "processor": _first_line(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "instructions": [flag for flag in wanted if flag in flags],
        "cores": os.cpu_count(),
        "memory_mib": int(memory.split()[0]) // 1024 if memory else None,
    }


def load_average() -> float | None:
    """Processes wanting a core, averaged over a minute; None where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
