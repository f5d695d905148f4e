"""The options of ``edgetf bench``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """What to time, against what, and how; of a decoder `seq_lens` are the tokens before the timed ones."""

    model: Path
    device: str
    against: Path | None = None
    threads: int = 1
    seq_lens: tuple[int, ...] = ()
    samples: int = 60
    sustained: float | None = None
    cpus: tuple[int, ...] = ()
    provider: str | None = None
