"""The sealed artifact: a folder whose `manifest.json`, written last, lists every file with its sha256.

A stage writes into ``NAME.partial``; when it is done the files are hashed, the manifest is written and the folder
is renamed. A killed run therefore leaves nothing that looks whole, and what exists is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgetf.core.errors import ArtifactError
from edgetf.core.files import file_sha256, guard_disk, read_json, write_json
from edgetf.core.metrics import Metric

SCHEMA = 1
MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint"
_KEY_FILE = ".key"


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: its path inside the folder, sha256 and bytes."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Spec:
    """What a stage says about the artifact it has just written.

    `size_bytes` is that of the deployable file (`model_file`), or of the weights of a torch checkpoint.
    """

    kind: str
    model_file: str
    params: int | None = None
    scheme: str = "fp32"
    metrics: tuple[Metric, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`."""

    name: str
    stage: str
    key: str
    spec: Spec
    files: tuple[FileEntry, ...]
    parents: tuple[str, ...] = ()
    seconds: float = 0.0
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes of the model file."""
        return next((entry.size_bytes for entry in self.files if entry.path == self.spec.model_file), 0)

    def to_json(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "schema": SCHEMA,
            "name": self.name,
            "stage": self.stage,
            "kind": spec.kind,
            "scheme": spec.scheme,
            "model_file": spec.model_file,
            "params": spec.params,
            "size_bytes": self.size_bytes,
            "metrics": [metric.to_json() for metric in spec.metrics],
            "details": spec.details,
            "key": self.key,
            "parents": list(self.parents),
            "seconds": self.seconds,
            "made": self.made,
            "files": [asdict(entry) for entry in self.files],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Manifest:
        spec = Spec(
            kind=record["kind"],
            model_file=record["model_file"],
            params=record["params"],
            scheme=record["scheme"],
            metrics=tuple(Metric.from_json(metric) for metric in record["metrics"]),
            details=record["details"],
        )
        files = tuple(FileEntry(e["path"], e["sha256"], e["size_bytes"]) for e in record["files"])
        return cls(
            name=record["name"],
            stage=record["stage"],
            key=record["key"],
            spec=spec,
            files=files,
            parents=tuple(record["parents"]),
            seconds=record["seconds"],
            made=record["made"],
        )


@dataclass(frozen=True)
class Artifact:
    """A sealed folder and its manifest."""

    path: Path
    manifest: Manifest
    digest: str  # sha256 of manifest.json; children name it as their parent

    @property
    def spec(self) -> Spec:
        return self.manifest.spec

    @property
    def model_path(self) -> Path:
        return self.path / self.spec.model_file


def key_of(record: Any) -> str:
    """sha256 of a JSON value in canonical form.

    >>> key_of({"b": 1, "a": 2}) == key_of({"a": 2, "b": 1})
    True
    """
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def load(folder: Path) -> Artifact:
    """Open a sealed artifact without reading its files.

    Raises:
        ArtifactError: there is no manifest, or it is not one of ours.
    """
    if folder.is_file() or not folder.is_dir():
        raise ArtifactError(f"{folder}: not an artifact folder; give a folder with a {MANIFEST}")
    path = folder / MANIFEST
    record = read_json(path)
    try:
        if record["schema"] != SCHEMA:
            raise ArtifactError(f"{path}: schema {record['schema']}, this edgetf reads {SCHEMA}; make it again")
        manifest = Manifest.from_json(record)
        _check_types(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ArtifactError(f"{path}: not an edgetf manifest ({error!r}); make it again") from None
    return Artifact(folder, manifest, file_sha256(path))


def _check_types(manifest: Manifest) -> None:
    """What a manifest written elsewhere may get wrong and the code relies on."""
    spec = manifest.spec
    for name, value in (("model_file", spec.model_file), ("kind", spec.kind), ("scheme", spec.scheme)):
        if not isinstance(value, str):
            raise TypeError(f"{name} is {value!r}")
    if not isinstance(spec.details, dict):
        raise TypeError(f"details is {spec.details!r}")
    for entry in manifest.files:
        if not isinstance(entry.path, str) or not isinstance(entry.size_bytes, int):
            raise TypeError(f"files has {entry!r}")


def verify(artifact: Artifact) -> Artifact:
    """Check every file against the manifest.

    Raises:
        ArtifactError: a file is missing, changed, or would lie outside the folder.
    """
    for entry in artifact.manifest.files:
        inside = PurePosixPath(entry.path)
        if inside.is_absolute() or ".." in inside.parts:
            raise ArtifactError(f"{artifact.path}: unsafe file name {entry.path!r} in the manifest; do not use it")
        path = artifact.path / entry.path
        if not path.is_file():
            raise ArtifactError(f"{path}: missing; run the recipe again")
        if path.stat().st_size != entry.size_bytes or file_sha256(path) != entry.sha256:
            raise ArtifactError(f"{path}: changed since it was sealed (sha256 differs); run the recipe again")
    if artifact.spec.model_file not in [entry.path for entry in artifact.manifest.files]:
        raise ArtifactError(f"{artifact.path}: its model file {artifact.spec.model_file!r} is not among its files")
    return artifact


def open_verified(folder: Path) -> Artifact:
    """Load an artifact and check all its files."""
    return verify(load(folder))


def _prepare(partial: Path, key: str, resume: bool) -> None:
    """An empty folder to write in, which keeps only a training checkpoint made under the same key."""
    partial.mkdir(parents=True, exist_ok=True)
    key_file = partial / _KEY_FILE
    keep = resume and key_file.is_file() and key_file.read_text() == key
    for child in partial.iterdir():
        if keep and child.name in {CHECKPOINT, _KEY_FILE}:
            continue
        if child.is_dir():
            shutil.rmtree(child)
        else:
            child.unlink()
    key_file.write_text(key)


def seal(
    folder: Path,
    *,
    stage: str,
    key: str,
    parents: Sequence[Artifact],
    made: dict[str, Any],
    write: Callable[[Path], tuple[Spec, float]],
    resume: bool = True,
) -> Artifact:
    """Let `write` fill ``folder.partial`` and give back its spec and seconds, then hash, describe and rename it.

    A training checkpoint that an earlier call left there under the same key stays for `write`, unless `resume` is off.
    """
    partial = folder.with_name(folder.name + ".partial")
    with guard_disk(folder):
        _prepare(partial, key, resume)
        try:
            spec, seconds = write(partial)
        except BaseException:
            if not (partial / CHECKPOINT).is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(partial / CHECKPOINT, ignore_errors=True)
        (partial / _KEY_FILE).unlink()
        manifest = Manifest(
            name=folder.name,
            stage=stage,
            key=key,
            spec=spec,
            files=_hash_files(partial),
            parents=tuple(parent.digest for parent in parents),
            seconds=round(seconds, 3),
            made=made,
        )
        write_json(partial / MANIFEST, manifest.to_json())
        _put_in_place(partial, folder)
    return load(folder)


def _hash_files(folder: Path) -> tuple[FileEntry, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return tuple(
        FileEntry(path.relative_to(folder).as_posix(), file_sha256(path), path.stat().st_size) for path in paths
    )


def _put_in_place(partial: Path, folder: Path) -> None:
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def link_copy(source: Artifact, folder: Path) -> Artifact:
    """Put the same sealed artifact at another place, by hard links where the file system has them."""

    def link(src: str, dst: str) -> None:
        try:
            os.link(src, dst)
        except OSError:
            shutil.copy2(src, dst)

    partial = folder.with_name(folder.name + ".partial")
    with guard_disk(folder):
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source.path, partial, copy_function=link)
        _put_in_place(partial, folder)
    return load(folder)
