"""What the pieces of a tokenizer's model are made of, and which must stay so that pruning breaks none.

WordPiece (Wu et al. 2016) takes at every position of a word the longest piece s in V that the rest of the word starts
with. For V' ⊂ V that is the same s wherever s is in V', because V' holds no longer one: a word whose pieces all stay is
read as before. A word whose characters are all in V' always has a next piece, so that it never becomes [UNK].

BPE (Sennrich et al. 2016) joins the neighbors of the lowest rank until none can be joined. Nothing is joined across
the ends of what comes out as one piece, so that each piece is made by the same joins as when it stands alone. Where
the pieces that these joins pass through (its derivation) stay, the same joins stay the lowest, in the same order.

Unigram (Kudo 2018) takes of all segmentations P of a text the one with the highest sum of scores. Those in V' are some
of those in V, so that the best of V is the best of V' wherever its pieces stay; of equal ones both take the same. Only
one thing is new in V': a character that is no piece any more may be read as unknown, at a score of the lowest one of
all less 10. That is less than the character's own score as long as the lowest one is what it was, so a piece with the
lowest score stays.

With byte fallback a character that is no piece becomes its bytes in UTF-8. Where all 256 are pieces no text is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

Record = dict[str, Any]
Company = Callable[[str], set[str]]  # what must stay with a piece

_ASCII = {chr(code) for code in range(0x21, 0x7F)}
_SPACE = "▁"  # as SentencePiece writes it
_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}


def vocabulary(model: Record) -> dict[str, int]:
    """The ids of a model's pieces; Unigram's file has a list of pieces and their scores."""
    vocab = model["vocab"]
    if isinstance(vocab, list):
        return {piece: number for number, (piece, _) in enumerate(vocab)}
    found: dict[str, int] = vocab
    return found


def company_of(model: Record) -> Company:
    """What must stay with a piece: its derivation (BPE), or its characters, which spell what a larger one would."""
    vocab, prefix, suffix = set(vocabulary(model)), _mark(model), model.get("end_of_word_suffix") or ""
    if model["type"] == "BPE":
        joins = {(first, second): (rank, made) for rank, (first, second, made) in enumerate(merges_of(model))}
        return lambda piece: vocab & _derivation(_symbols(piece, prefix, suffix), joins)
    if _falls_back(model):
        return lambda piece: set()
    return lambda piece: vocab & {mark + symbol[-1] for symbol in _symbols(piece, prefix) for mark in ("", prefix)}


def must_stay(model: Record, counted: list[str], company: Company) -> set[str]:
    """The pieces without which a counted text, or one of plain ASCII, could become [UNK], or others be read anew."""
    vocab, prefix = set(vocabulary(model)), _mark(model)
    ascii_forms = vocab & (_ASCII | {prefix + char for char in _ASCII})
    if model["type"] == "Unigram":
        ascii_forms.add(min(model["vocab"], key=lambda entry: entry[1])[0])
    if _falls_back(model):
        return ascii_forms | _BYTES | ({_SPACE} & vocab)
    if model["type"] == "BPE":  # what no merge makes: in byte-level BPE, the bytes
        return vocab - {made for _, _, made in merges_of(model)}
    unspelled = {piece for piece in counted if not vocab.issuperset(_symbols(piece, prefix))}
    # At the start of a word such a piece is found as before. Inside, another match could run across where it starts;
    # and of all segmentations (Unigram) one with an unknown character could be the best.
    all_of_them = model["type"] == "Unigram" or any(piece.startswith(prefix) for piece in unspelled)
    return ascii_forms.union(counted if unspelled and all_of_them else unspelled, *map(company, counted))


def merges_of(model: Record) -> list[tuple[str, str, str]]:
    """Each merge as its two parts and what they become; files hold ``"a b"`` or ``["a", "b"]``."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", [])]
    return [(first, second, first + second[len(_mark(model)) :]) for first, second in pairs]


def without(model: Record, new_of: Mapping[int, int]) -> None:
    """Leave only the pieces whose old ids have a new one, in place."""
    if model["type"] == "Unigram":
        kept = sorted((new_of[old], entry) for old, entry in enumerate(model["vocab"]) if old in new_of)
        model["vocab"] = [entry for _, entry in kept]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_of[model["unk_id"]]
        return
    left = sorted((new_of[old], piece) for piece, old in model["vocab"].items() if old in new_of)
    vocab = model["vocab"] = {piece: new for new, piece in left}
    if model["type"] == "BPE":  # each in the format it had
        every = zip(model["merges"], merges_of(model), strict=True)
        model["merges"] = [merge for merge, parts in every if vocab.keys() >= set(parts)]


def _falls_back(model: Record) -> bool:
    """Whether every character can be written as its bytes."""
    return bool(model.get("byte_fallback")) and vocabulary(model).keys() >= _BYTES


def _derivation(symbols: list[str], joins: Mapping[tuple[str, str], tuple[int, str]]) -> set[str]:
    """Every piece that BPE has on its way from these symbols; `joins` gives a pair's rank and what it becomes."""
    passed = set(symbols)
    while found := [(joins[pair][0], k, joins[pair][1]) for k, pair in enumerate(pairwise(symbols)) if pair in joins]:
        _, k, made = min(found)
        symbols[k : k + 2] = [made]
        passed.add(made)
    return passed


def _symbols(piece: str, prefix: str, suffix: str = "") -> list[str]:
    """The single characters of a piece, marked as inside a word: ``##ab`` gives ``##a``, ``##b``."""
    body = piece.removeprefix(prefix) or piece
    chars = body.removesuffix(suffix) or body
    symbols = [piece.removesuffix(body) + chars[0], *(prefix + char for char in chars[1:])]
    return [*symbols[:-1], symbols[-1] + body.removeprefix(chars)]


def _mark(model: Record) -> str:
    return model.get("continuing_subword_prefix") or ""
