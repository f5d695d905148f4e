"""A run's folder: make an artifact, or reuse one that was made under the same key, here or in another run.

key = sha256(stage config, digests of the parents, fingerprint of the data, versions of edgetf and of the libraries
that the stage uses). An index in the user's cache folder remembers where each key was made, so two recipes share a
prefix; reused files are hard links.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetf.core.artifact import Artifact, Spec, key_of, link_copy, load, open_verified, seal
from edgetf.core.errors import ArtifactError
from edgetf.core.files import guard_disk
from edgetf.core.made import made_with
from edgetf.core.places import cache_folder

Write = Callable[[Path], tuple[Spec, float]]


@dataclass(frozen=True)
class Made:
    """An artifact, and whether it was there already."""

    artifact: Artifact
    cached: bool


class Store:
    """Artifacts by name in one run's folder."""

    def __init__(self, folder: Path, fresh: bool) -> None:
        self.folder = folder
        self._fresh = fresh

    def make(
        self,
        name: str,
        stage: str,
        config: Any,
        parents: Sequence[Artifact],
        packages: Sequence[str],
        write: Write,
    ) -> Made:
        """The artifact `name`, reused where its key is known, else written by `write`."""
        made = made_with(*packages)
        key = key_of(
            {
                "name": name,  # the manifest says it, and a card names its recipe
                "stage": stage,
                "config": config,
                "parents": [parent.digest for parent in parents],
                "edgetf": made["edgetf"],
                "versions": made["versions"],
            }
        )
        found = None if self._fresh else self._reuse(name, key)
        if found is not None:
            return Made(found, cached=True)
        artifact = seal(
            self.folder / name,
            stage=stage,
            key=key,
            parents=parents,
            made=made,
            write=write,
            resume=not self._fresh,
        )
        self._remember(key, artifact)
        return Made(artifact, cached=False)

    def _reuse(self, name: str, key: str) -> Artifact | None:
        """A whole artifact with this key, put at its place in this run."""
        here = self.folder / name
        pointer = self._pointer(key)
        places = [here]
        if pointer.is_file():
            places.append(Path(pointer.read_text(encoding="utf-8")))
        for place in places:
            with contextlib.suppress(ArtifactError):  # damaged or gone: it is made again
                if not place.is_dir() or load(place).manifest.key != key:
                    continue
                found = open_verified(place)
                return found if place == here else link_copy(found, here)
        return None

    def _remember(self, key: str, artifact: Artifact) -> None:
        pointer = self._pointer(key)
        with guard_disk(pointer):
            pointer.parent.mkdir(parents=True, exist_ok=True)
            pointer.write_text(str(artifact.path.resolve()), encoding="utf-8")

    @staticmethod
    def _pointer(key: str) -> Path:
        return cache_folder() / "artifacts" / key


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Only one process writes to a run; the lock ends with the process, however that ends.

    Raises:
        ArtifactError: another one is at it, or the folder cannot be made.
    """
    try:
        with guard_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("w")
    except (FileExistsError, NotADirectoryError):
        raise ArtifactError(f"--out {folder}: a file stands there; choose another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ArtifactError(
                f"{folder}: another edgetf is writing there; wait for it, or use another --out"
            ) from None
        yield
