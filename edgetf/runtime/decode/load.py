"""Opening a decoder with the runtime that its file is for."""

from __future__ import annotations

from pathlib import Path

from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import DeviceError
from edgetf.runtime.decode.session import DecoderSession


def open_decoder(
    folder: Path, model_file: str, facts: DecoderFacts, backend: str, threads: int, provider: str | None = None
) -> DecoderSession:
    """A session of the file `model_file` in `folder`; `provider` None: the runtime's usual one on a CPU.

    Raises:
        ArtifactError: the file is missing, corrupt, or not a decoder.
        DeviceError: the backend runs no decoders, or its package is missing.
        ParityError: it holds an op that the runtime lacks.
    """
    match backend:
        case "ort":
            from edgetf.runtime.decode.ort import load_ort

            return load_ort(folder / model_file, facts, threads, provider)
        case "litert":
            from edgetf.runtime.decode.litert import load_litert

            return load_litert(folder / model_file, facts, threads, provider)
        case "fake":
            from edgetf.runtime.decode.fake import load_fake

            return load_fake(folder / model_file, facts)
        case _:
            raise DeviceError(f"backend {backend}: runs no language models; allowed: ort, litert")
