"""What the runner needs to know of a deployable model, and opening it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgetf.core.errors import ArtifactError
from edgetf.core.files import file_sha256
from edgetf.core.task_names import CLASSIFICATION, TaskName, by_word
from edgetf.runtime.backend import Session
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.load import load_backend


@dataclass(frozen=True)
class Model:
    """A model file with the rules for its inputs."""

    name: str
    folder: Path
    model_file: str
    backend: str
    max_length: int
    long_texts: str = "truncate"
    pad_id: int = 0
    task: TaskName = CLASSIFICATION
    timed_ids: tuple[int, ...] = ()  # the tokens of the timed input; empty: of the text that a request names
    provider: str | None = None  # execution provider or delegate; None: the runtime's usual one on a CPU
    sha256: str | None = None  # of the model file, where it came over a line; checked before it is opened

    @property
    def path(self) -> Path:
        """The model file."""
        return self.folder / self.model_file

    def encoder(self) -> Encoder:
        """Its tokenizer with its length rule."""
        return Encoder(self.folder, self.max_length, self.long_texts, self.pad_id, by_word(self.task))

    def text_ids(self, text: str) -> tuple[int, ...]:
        """Tokens of the first piece of a text."""
        return tuple(self.encoder().pieces([text])[0][0].input_ids)

    def open(self, threads: int) -> Session:
        """A session of it.

        Raises:
            ArtifactError: the file is missing or corrupt, or not the one that was sent.
            DeviceError: its backend is not there.
            ParityError: it holds an op that the runtime lacks.
        """
        if self.sha256 is not None and self.path.is_file() and file_sha256(self.path) != self.sha256:
            raise ArtifactError(f"{self.path}: its bytes are not those that were sent; measure again to send it anew")
        backend = load_backend(self.backend)
        if self.provider is None:
            return backend.load(self.path, threads)
        return backend.load(self.path, threads, self.provider)

    def to_json(self) -> dict[str, Any]:
        """As a request carries it."""
        return {**asdict(self), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Model:
        """What `to_json` wrote."""
        ids = tuple(record.get("timed_ids", ()))
        return cls(**{**record, "folder": Path(record["folder"]), "timed_ids": ids})
