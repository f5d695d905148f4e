"""Reading and writing files: what users wrote may be anything, and what we write is whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError, ConfigError, EdgetfError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_FOREIGN_WRITE_ERRORS = ("inline_container.cc", "PytorchStreamWriter failed", "os error 28", "os error 27")


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


def weights_beside(path: Path) -> Path:
    """Where the weights of an ONNX model lie that one file cannot hold."""
    return path.with_name(f"{path.name}.data")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: unreadable, not UTF-8, or not YAML.
    """
    import yaml  # a device has none

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        ArtifactError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not found; give the folder that `edgetf compress` wrote") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error}); make it again") from None


def read_lines(path: Path) -> list[Any]:
    """The values of a JSON Lines file; a line ends at a line feed only, because a text may hold other line ends.

    Raises:
        ArtifactError: it is missing, broken, or empty.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the recipe again") from None
    if not rows:
        raise ArtifactError(f"{path}: has no rows; run the recipe again")
    return rows


def write_json(path: Path, record: Any) -> None:
    """Write a JSON file whole or not at all."""
    part = path.with_name(path.name + ".part")
    with guard_disk(path):
        part.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place to write in, which becomes the file when the block ends well; several may write the same at once."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.part")
    with guard_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def guard_disk(place: Path) -> Iterator[None]:
    """Turn a full disk, a read-only or a forbidden place into one clear message."""
    try:
        yield
    except EdgetfError:
        raise  # it says already what happened
    except Exception as error:
        reason = write_problem(error)
        if reason is None:
            raise
        raise ArtifactError(f"{place}: {reason} and run the same command again, it resumes") from error


def write_problem(error: BaseException | None) -> str | None:
    """Why a write failed, or None where an error is something else.

    torch and safetensors write from C++ and Rust, and report a failed write as an error of their own kind.
    """
    while error is not None:
        number = getattr(error, "errno", None)
        if number in _DISK_FULL or any(words in str(error) for words in _FOREIGN_WRITE_ERRORS):
            return "the disk or its quota is full; free some space"
        if number in _FORBIDDEN:
            return "no permission to write there; choose another --out"
        error = error.__cause__ or error.__context__
    return None
