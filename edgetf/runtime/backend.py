"""What a runtime must offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgetf.core.errors import DeviceError
from edgetf.core.metrics import Floats
from edgetf.runtime.inputs import Batch


@dataclass(frozen=True)
class Engine:
    """The execution provider or delegate that was asked for, the one that ran most of the graph, and its nodes."""

    asked: str
    ran: str
    nodes: dict[str, int] = field(default_factory=dict)  # by provider; empty: the runtime does not tell

    @classmethod
    def of(cls, asked: str, nodes: dict[str, int]) -> Engine:
        """From the nodes of each provider.

        >>> Engine.of("CUDA", {"CUDA": 3, "CPU": 40}).ran
        'CPU'
        """
        return cls(asked, max(nodes, key=nodes.__getitem__, default=asked), nodes)

    def to_json(self) -> dict[str, Any]:
        """As a report holds it."""
        return asdict(self)


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

    def load(self, model: Path, threads: int, provider: str | None = None) -> Session:
        """Open a file with an execution provider or delegate; None: the runtime's usual one on a CPU.

        Raises:
            ArtifactError: the file is missing or corrupt.
            DeviceError: the provider is not there.
            ParityError: it holds an op that the runtime lacks.
        """
        ...


def lacks_provider(runtime: str, provider: str, known: Sequence[str]) -> DeviceError:
    """What to say of a provider that is not there."""
    return DeviceError(f"{runtime}: got provider {provider}, allowed here: {', '.join(known)}")


def fitting_length(lengths: tuple[int, ...] | None, tokens: int) -> int:
    """The shortest length a session takes that holds so many tokens, or its longest.

    >>> fitting_length((32, 64), 40), fitting_length((32, 64), 99), fitting_length(None, 7)
    (64, 64, 7)
    """
    if lengths is None:
        return tokens
    return next((length for length in lengths if length >= tokens), lengths[-1])
