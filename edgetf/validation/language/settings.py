"""How a decoder is timed: at which lengths of what came before, and how often."""

from __future__ import annotations

from dataclasses import dataclass

CONTEXTS = (32, 128, 384)
NEW_TOKENS = 8  # least room that a context leaves for the tokens that are timed behind it


@dataclass(frozen=True)
class LanguageSettings:
    """`contexts` are tokens before the timed ones; the middle one is what a budget judges."""

    threads: int = 1
    samples: int = 60  # timed tokens of each model at each context
    contexts: tuple[int, ...] = CONTEXTS


def fitting_contexts(contexts: tuple[int, ...], max_length: int) -> tuple[int, ...]:
    """The contexts, cut to what a model of so many positions can hold with room to write; each once, ascending.

    >>> fitting_contexts((384, 32, 128), 64), fitting_contexts((8,), 64)
    ((32, 56), (8,))
    """
    most = max(1, max_length - NEW_TOKENS)
    return tuple(sorted({min(context, most) for context in contexts}))
