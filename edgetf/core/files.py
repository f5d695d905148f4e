"""Reading what users wrote: YAML, and paths that may be no paths at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from edgetf.core.errors import ConfigError


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that the file system cannot even hold is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Whether there is a file or folder of that name."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: unreadable, not UTF-8, or not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
