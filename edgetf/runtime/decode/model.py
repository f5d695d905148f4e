"""What the runner needs to know of a deployable decoder, and opening it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetf.core.artifact import Artifact
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError
from edgetf.core.files import file_sha256
from edgetf.core.schemes import Runtime
from edgetf.core.support import HERE
from edgetf.runtime.decode.load import open_decoder
from edgetf.runtime.decode.session import DecoderSession
from edgetf.runtime.decode.text import TextCodec


@dataclass(frozen=True)
class DecoderModel:
    """A model file with what a runtime must know of it; a request tells it from another model by `decoder`."""

    name: str
    folder: Path
    model_file: str
    backend: str
    decoder: DecoderFacts
    timed_ids: tuple[int, ...] = ()  # the tokens of the timed text; empty: of the text that a request names
    provider: str | None = None  # execution provider or delegate; None: the runtime's usual one on a CPU
    sha256: str | None = None  # of the model file, where it came over a line; checked before it is opened

    @property
    def path(self) -> Path:
        """The model file."""
        return self.folder / self.model_file

    def codec(self) -> TextCodec:
        """Its tokenizer."""
        return TextCodec(self.folder, self.decoder)

    def text_ids(self, text: str) -> tuple[int, ...]:
        """Tokens of a text."""
        return tuple(self.codec().ids(text).tolist())

    def open(self, threads: int) -> DecoderSession:
        """A session of it.

        Raises:
            ArtifactError: the file is missing or corrupt, or not the one that was sent.
            DeviceError: its backend is not there.
            ParityError: it holds an op that the runtime lacks.
        """
        if self.sha256 is not None and self.path.is_file() and file_sha256(self.path) != self.sha256:
            raise ArtifactError(f"{self.path}: its bytes are not those that were sent; measure again to send it anew")
        return open_decoder(self.folder, self.model_file, self.decoder, self.backend, threads, self.provider)

    def to_json(self) -> dict[str, Any]:
        """As a request carries it."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "model_file": self.model_file,
            "backend": self.backend,
            "decoder": self.decoder.to_json(),
            "timed_ids": list(self.timed_ids),
            "provider": self.provider,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> DecoderModel:
        """What `to_json` wrote."""
        changed = {
            "folder": Path(record["folder"]),
            "decoder": DecoderFacts.from_json(record["decoder"]),
            "timed_ids": tuple(record.get("timed_ids", ())),
        }
        return cls(**{**record, **changed})


def decoder_model(artifact: Artifact, runtime: Runtime | None = None) -> DecoderModel:
    """What the runner needs to know of an artifact; `runtime` opens it, if not the one that checks such files here.

    Raises:
        ArtifactError: it is a torch checkpoint, or its manifest tells nothing of a decoder.
    """
    kind = artifact.spec.kind
    if kind == "torch":
        raise ArtifactError(f"{artifact.path}: a torch artifact does not run; give an exported variant")
    try:
        facts = DecoderFacts.from_json(artifact.spec.details["decoder"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{artifact.path}: its manifest has no whole `decoder` ({error}); make it again") from None
    backend = runtime or HERE[kind]  # type: ignore[index]
    return DecoderModel(artifact.manifest.name, artifact.path, artifact.spec.model_file, backend, facts)
