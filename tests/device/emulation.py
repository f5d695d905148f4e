"""What the tests of emulated arm64 share: the set-up, made once a session, or the reason why it cannot be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Cli

from edgetf.targets.arm64_root import NAME, Root, find_root

TOOLS = ("apt-get", "dpkg-deb", "cc")
AWAY = ("Failed to fetch", "Temporary failure", "Could not resolve", "Could not find a version", "Connection")


def set_up(cli: Cli, cache: Path) -> Root:
    """The arm64 root in the session's cache folder, as a user makes it; skips aloud where it cannot be downloaded."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"emulated arm64 needs {', '.join(missing)}")
    done = cli("targets", "setup", NAME)
    if done.returncode == 4 and any(word in done.stderr for word in AWAY):
        pytest.skip(f"emulated arm64 cannot be downloaded: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETF_CACHE", str(cache))
        return find_root()
