"""New texts from old ones, so that a student sees more of what its teacher knows than a small data set shows.

Replacement (TinyBERT, Jiao et al. 2020, section 4): a word changes, with probability p, to one of the K words whose
embeddings are nearest to its own, by ``cos(e, e') = e · e' / (‖e‖ ‖e'‖)``, or to one of the K that a masked language
model gives the highest logits z there, word k with probability ``exp(z_k) / Σ over the K of exp(z)``. Deletion (EDA,
Wei & Zou 2019): a word goes with probability p. Splicing: the words of one text up to a place, and those of another
from a place on; SSMix (Yoon et al. 2021) exchanges a span likewise and mixes the labels, here the teacher reads the
result.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from edgetf.core.errors import ArtifactError

Item = TypeVar("Item")

_WORD = re.compile(r"((?:[^\W_]|['’])+)")
_BLOCK = 256  # rows of similarities at a time: 61 MB for 30,000 words
_CLOSING = tuple(".,;:!?)")  # no white space stands before these


def neighbors(
    embedding: Tensor, ids: Sequence[int], count: int, among: Sequence[int] | None = None
) -> dict[int, list[int]]:
    """For each of `ids` the `count` nearest others in `among` (in `ids`, if not given), nearest first.

    `embedding` has shape (V, H), and the ids are rows of it.

    >>> neighbors(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [-1.0, 0.0]]), [0, 1, 2, 3], 2)[0]
    [2, 1]
    """
    pool = list(ids if among is None else among)
    # double: the last bits of single precision change with the size of a block, and with them the order of near ties
    unit = F.normalize(embedding[pool].double(), dim=1)  # (N, H)
    nearest: dict[int, list[int]] = {}
    for start in range(0, len(ids), _BLOCK):
        block = list(ids[start : start + _BLOCK])
        similar = F.normalize(embedding[block].double(), dim=1) @ unit.T  # (block, N)
        best = similar.topk(min(count + 1, len(pool)), dim=1).indices  # one more, because most find themselves
        for own, row in zip(block, best.tolist(), strict=True):
            nearest[own] = [pool[k] for k in row if pool[k] != own][:count]
    return nearest


def whole_words(
    kind: str, vocabulary: Mapping[str, int], decode: Callable[[list[list[int]]], Sequence[str]]
) -> dict[int, str]:
    """The pieces of a WordPiece or byte-level BPE vocabulary that are words of letters and digits, by ascending id.

    Raises:
        ArtifactError: the kind is another.
    """
    if kind not in ("WordPiece", "BPE"):
        raise ArtifactError(f"data.augment: got a tokenizer of the kind {kind}, allowed: WordPiece, BPE")
    pieces = sorted((n, piece) for piece, n in vocabulary.items())
    first = [n for n, piece in pieces if (piece[:2] != "##" if kind == "WordPiece" else piece[:1] == "Ġ")]
    words = zip(first, decode([[n] for n in first]), strict=True)  # a byte-level piece spells bytes, not letters
    return {n: word.strip() for n, word in words if word.strip().isalnum()}


def split_words(text: str) -> list[str]:
    """Separators and words in turn, so that words stand at the odd positions; joined they are the text again.

    A word is a run of letters, digits and apostrophes. Text without a separator at its start or end has an empty one.

    >>> split_words("It's 5 o'clock.")
    ['', "It's", ' ', '5', ' ', "o'clock", '.']
    """
    return _WORD.split(text)


def picked(items: Sequence[Item], rng: random.Random, share: float) -> list[Item]:
    """Every item with probability `share`, in order, and one at least where there are any."""
    chosen = [item for item in items if rng.random() < share]
    return chosen or ([rng.choice(items)] if items else [])


def in_case_of(word: str, original: str) -> str:
    """The word with the capital first letter, or in the capitals, of another.

    >>> in_case_of("shares", "Bonds"), in_case_of("shares", "BONDS"), in_case_of("London", "bonds")
    ('Shares', 'SHARES', 'London')
    """
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word


def replace_words(text: str, rng: random.Random, share: float, candidates: Callable[[str], Sequence[str]]) -> str:
    """Each word that has candidates changes to one of them with probability `share`; one at least does.

    >>> replace_words("Rain, 5 degrees", random.Random(0), 1.0, lambda word: ["snow"] if word == "Rain" else [])
    'Snow, 5 degrees'
    """
    parts = split_words(text)
    options = {
        k: [word for word in candidates(parts[k]) if word.casefold() != parts[k].casefold()]
        for k in range(1, len(parts), 2)
    }
    for k in picked([k for k, words in options.items() if words], rng, share):
        parts[k] = in_case_of(rng.choice(options[k]), parts[k])
    return "".join(parts)


def delete_words(text: str, rng: random.Random, share: float) -> str:
    """Each word goes with probability `share`, but one always stays.

    >>> delete_words("rain (and wind), later snow.", random.Random(0), 0.5)
    'rain (and), snow.'
    """
    parts = split_words(text)
    words = range(1, len(parts), 2)
    gone = {k for k in words if rng.random() < share}
    if words and len(gone) == len(words):
        gone.remove(rng.choice(words))
    kept = [parts[0]]
    for k in words:
        if k in gone:
            kept[-1] = _joined(kept[-1], parts[k + 1])
        else:
            kept += parts[k : k + 2]
    return "".join(kept).strip()


def splice_texts(text: str, other: str, rng: random.Random) -> str:
    """The start of one text and the end of another, at least a word of each; words are what white space divides.

    >>> splice_texts("a fine cast", "the plot is thin", random.Random(0))
    'a fine thin'
    """
    first, second = text.split(), other.split()
    if not first or not second:
        return text
    return " ".join(first[: rng.randint(1, len(first))] + second[rng.randrange(len(second)) :])


def _joined(before: str, after: str) -> str:
    """The separators around a word that is gone, as one."""
    if before[-1:].isspace():
        after = after.lstrip()
    return (before.rstrip() if after.startswith(_CLOSING) else before) + after


def one_piece_words(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """First character, last + 1, and number of the piece, of every word that is exactly one of the pieces at `offsets`.

    >>> one_piece_words("big rainy day", [(0, 3), (4, 8), (8, 9), (9, 13)])
    [(0, 3, 0), (10, 13, 3)]
    """
    pieces = defaultdict(list)
    for piece, (start, end) in enumerate(offsets):  # some tokenizers count the space before a word
        pieces[end - len(text[start:end].lstrip()), end].append(piece)
    found, end = [], 0
    for k, part in enumerate(split_words(text)):
        start, end = end, end + len(part)
        if k % 2 == 1 and len(pieces[start, end]) == 1:  # the bytes of one letter are many pieces at one place
            found.append((start, end, pieces[start, end][0]))
    return found


def filled(text: str, spots: Sequence[tuple[int, int, int]], words: Sequence[str]) -> str:
    """The text with other words in those places, in the case of the old ones.

    >>> filled("big rainy Day", [(0, 3, 0), (10, 13, 3)], ["small", "night"])
    'small rainy Night'
    """
    for (start, end, _), word in reversed(list(zip(spots, words, strict=True))):
        text = text[:start] + in_case_of(word, text[start:end]) + text[end:]
    return text


def likely_words(logits: Tensor, own: Tensor, words: Tensor, count: int) -> list[tuple[list[int], list[float]]]:
    """The ids and probabilities of the `count` best of the pieces `words` (A,), by row, without the row's own piece.

    The logits have shape (M, V), and `own` (M,).

    >>> likely_words(torch.tensor([[9.0, 8.0, 1.0, 1.0, 7.0]]), torch.tensor([0]), torch.tensor([0, 2, 3]), 2)
    [([2, 3], [0.5, 0.5])]
    """
    scores = logits[:, words].float().masked_fill(words == own[:, None], -torch.inf)  # (M, A)
    best = scores.topk(min(count, len(words) - 1), dim=1)
    return list(zip(words[best.indices].tolist(), best.values.softmax(dim=1).tolist(), strict=True))
