"""What a runtime must offer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgetf.core.metrics import Floats
from edgetf.runtime.inputs import Batch


@dataclass(frozen=True)
class Engine:
    """The execution provider or delegate that was asked for, and the one that ran."""

    asked: str
    ran: str


class Session(Protocol):
    """A loaded model. `lengths` are the token counts it takes, ascending; None means any."""

    input_names: tuple[str, ...]
    lengths: tuple[int, ...] | None
    engine: Engine

    def run(self, batch: Batch) -> Floats:
        """Logits of shape (B, C) for a batch whose T the session takes."""
        ...


class Backend(Protocol):
    """A runtime that opens model files."""

    name: str

    def load(self, model: Path, threads: int) -> Session:
        """Open a file.

        Raises:
            ArtifactError: the file is missing or corrupt.
            ParityError: it holds an op that the runtime lacks.
        """
        ...


def fitting_length(lengths: tuple[int, ...] | None, tokens: int) -> int:
    """The shortest length a session takes that holds so many tokens, or its longest.

    >>> fitting_length((32, 64), 40), fitting_length((32, 64), 99), fitting_length(None, 7)
    (64, 64, 7)
    """
    if lengths is None:
        return tokens
    return next((length for length in lengths if length >= tokens), lengths[-1])
