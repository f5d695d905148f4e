"""Where the rows of a source lie: a data card, a package, a file or folder, or a table of a hub data set."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgetf.core.errors import DataError, near_match
from edgetf.core.files import exists
from edgetf.data.cards import DataCard, card_names, check_card
from edgetf.data.locate import hub_snapshot, is_hub, npm_path, package_path
from edgetf.data.tables import READABLE


class HowToRead(Protocol):
    """What a recipe says of a source that no card describes."""

    @property
    def encoding(self) -> str:
        """Of its bytes."""
        ...

    @property
    def revision(self) -> str | None:
        """Of a hub data set."""
        ...


def resolve(config: HowToRead, source: str, card: DataCard | None) -> tuple[Path, str]:
    """The local path of a source and its encoding."""
    if card is not None:
        path = installed_path(card.source)
        check_card(card, path)
        return path, card.encoding
    if source.startswith(("package:", "npm:")):
        return installed_path(source), config.encoding
    path = Path(source).expanduser() if source.startswith("~/") else Path(source)
    if exists(path):
        return path, config.encoding
    if is_hub(source):
        return _hub_file(source, config.revision), config.encoding
    if "/" not in source and not path.suffix:
        raise DataError(f"data.source: no file or data card {source!r}{near_match(source, card_names())}")
    raise DataError(f"data.source: {source} does not exist; give a file, a folder, package:, npm:, hub: or a data card")


def installed_path(source: str) -> Path:
    """A path inside an installed package."""
    return npm_path(source) if source.startswith("npm:") else package_path(source)


def _hub_file(source: str, revision: str | None) -> Path:
    """One table of a hub data set: ``hub:OWNER/NAME`` where it has just one, ``hub:OWNER/NAME/FILE`` elsewhere."""
    parts = source.removeprefix("hub:").split("/")
    repo, inside = "/".join(parts[:2]), "/".join(parts[2:])
    patterns = [inside] if inside else [f"*{suffix}" for suffix in READABLE]
    folder = hub_snapshot(repo, "dataset", patterns, revision)
    files = sorted(path for path in folder.rglob("*") if path.suffix in READABLE and path.match(inside or "*"))
    if len(files) != 1:
        found = ", ".join(file.relative_to(folder).as_posix() for file in files[:8]) or "none"
        raise DataError(f"data.source: hub:{repo} has these tables: {found}; name one as hub:{repo}/FILE")
    return files[0]
