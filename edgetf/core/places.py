"""Where recipes, devices and calibration data lie (at the top of a checkout, or inside an installed wheel), and what
the user keeps."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped(folder: str) -> Path:
    """The folder `recipes`, `devices` or `calibration_data` of this installation."""
    inside = _PACKAGE / "shipped" / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def cache_folder() -> Path:
    """Where the index of reusable artifacts lives: $EDGETF_CACHE, else the user's cache folder."""
    own = os.environ.get("EDGETF_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgetf"


def own_devices() -> Path:
    """Where the user's own device profiles lie: $EDGETF_DEVICES, else `edgetf/devices` in the configuration folder."""
    own = os.environ.get("EDGETF_DEVICES")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "edgetf" / "devices"


def checkout() -> Path | None:
    """The repository that this package runs from, or None for an installed wheel."""
    top = _PACKAGE.parent
    return top if (top / ".git").exists() and (top / "pyproject.toml").is_file() else None
