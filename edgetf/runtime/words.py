"""Which token speaks for a word: the first of its pieces, found by where both stand in the text.

A word is what stands between white space. Places in the text are the same for every tokenizer, whether it marks the
beginning of a word or its continuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from edgetf.core.metrics import Floats

_WORD = re.compile(r"\S+")
Firsts = tuple[tuple[int, int], ...]  # token of a piece, word of the text


def words_of(text: str) -> list[str]:
    """The words of a text.

    >>> words_of(" New York ,  NY")
    ['New', 'York', ',', 'NY']
    """
    return _WORD.findall(text)


def first_tokens(text: str, pieces: Sequence[Any]) -> list[Firsts]:
    """For every piece (an encoding of the library `tokenizers`) the words that begin in it, each with its token.

    A word that the tokenizer drops, or that lies behind the last piece, stands in none.
    """
    places = [found.span() for found in _WORD.finditer(text)]
    word = 0
    firsts: list[Firsts] = []
    for piece in pieces:
        mine: list[tuple[int, int]] = []
        for token, (start, end) in enumerate(piece.offsets):
            if piece.special_tokens_mask[token] or start == end:
                continue
            while word < len(places) and places[word][1] <= start:
                word += 1  # nothing of it was left
            if word < len(places) and end > places[word][0]:
                mine.append((token, word))
                word += 1
        firsts.append(tuple(mine))
    return firsts


def starts(texts: Sequence[str]) -> list[int]:
    """The number of the first word of every text where words are counted through, and of all.

    >>> starts(["a b", "c"])
    [0, 2, 3]
    """
    return list(accumulate((len(words_of(text)) for text in texts), initial=0))


def by_text(answers: Floats, texts: Sequence[str]) -> list[Floats]:
    """Answers for all words (W, C) as one array a text."""
    return np.split(answers, starts(texts)[1:-1])


def word_answers(outputs: Sequence[Floats], firsts: Sequence[Firsts], words: int) -> Floats:
    """What the first tokens say, (words, C), of the outputs (T, C) of a text's pieces; zeros for a word without one."""
    found = np.zeros((words, outputs[0].shape[-1]))
    for output, mine in zip(outputs, firsts, strict=True):
        for token, word in mine:
            if token < len(output):
                found[word] = output[token]
    return found
