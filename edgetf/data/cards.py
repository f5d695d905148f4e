"""Data cards: a data set's origin, license, checksum and columns, in `calibration_data/NAME.yaml`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from edgetf.core.errors import ConfigError, DataError
from edgetf.core.files import is_file, read_yaml
from edgetf.core.places import shipped
from edgetf.core.problems import explain
from edgetf.core.strict import Strict


class DataCard(Strict):
    """A known data set."""

    name: str
    title: str
    origin: str
    license: str
    get: str
    source: str
    sha256: str
    rows: int
    text: str = "text"
    label: str = "label"
    encoding: str = "utf-8"
    files: Annotated[str, Field(description="which files of a folder are the data, as a glob")] = "*.txt"
    tagged: Annotated[bool, Field(description="the files hold words with tags, word/tag, for running text")] = False


def card_names() -> list[str]:
    """Every data card that is installed."""
    return sorted(path.stem for path in shipped("calibration_data").glob("*.yaml"))


def load_card(name: str) -> DataCard | None:
    """The card of that name, or None.

    Raises:
        ConfigError: the card does not fit its schema.
    """
    path = shipped("calibration_data") / f"{name}.yaml"
    if "/" in name or not is_file(path):
        return None
    try:
        return DataCard.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError(explain(error, DataCard, place=f"{path.name}: ")) from None


def content_sha256(path: Path, pattern: str = "*.txt") -> str:
    """sha256 over the names and contents of the data files at a path, so that a folder has one too."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob(pattern) if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(path.parent).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def check_card(card: DataCard, path: Path) -> None:
    """Hold the installed data against the card.

    Raises:
        DataError: it is not the data that the card describes.
    """
    got = content_sha256(path, card.files)
    if got != card.sha256:
        raise DataError(f"{card.name}: {path} has sha256 {got[:12]}…, its card says {card.sha256[:12]}…; {card.get}")
