"""Documents of a corpus, read from its sources, without duplicates, and split whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Corpus:
    """Documents for each use, and what they are known by in cache keys."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    fingerprint: str
    duplicates: int = 0  # documents left out because they stood there before
