"""Remove word pieces from a tokenizer, so that a smaller embedding can ship with it.

WordPiece (Wu et al. 2016) takes at every position of a word the longest piece s in V that the rest of the word starts
with. For V' ⊂ V that is the same s wherever s is in V', because V' holds no longer one: a word whose pieces all stay is
read as before. A word whose characters are all in V' always has a next piece, so that it never becomes [UNK].

BPE (Sennrich et al. 2016) joins the neighbors of the lowest rank until none can be joined. Nothing is joined across
the ends of what comes out as one piece, so that each piece is made by the same joins as when it stands alone. Where
the pieces that these joins pass through (its derivation) stay, the same joins stay the lowest, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import ConfigError, needs
from edgetf.core.files import guard_disk, read_json, write_json
from edgetf.runtime.encoder import TOKENIZER

Record = dict[str, Any]
Company = Callable[[str], set[str]]  # what must stay with a piece

_MODELS = ("WordPiece", "BPE")
_OTHER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
# transformers adds those of its class that it does not find, with ids behind the vocabulary
_USUAL_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>")
_ASCII = {chr(code) for code in range(0x21, 0x7F)}
_TEXTS_AT_ONCE = 1024


def count_pieces(folder: Path, texts: Iterable[str], pairs: Sequence[str] | None = None) -> NDArray[np.int64]:
    """How often each token id occurs in the whole texts, shape (V,), where V is the highest id + 1."""
    with needs("ort"):
        from tokenizers import Tokenizer
    tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counts = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.int64)
    inputs = iter(texts) if pairs is None else zip(texts, pairs, strict=True)
    while some := list(islice(inputs, _TEXTS_AT_ONCE)):
        found = [number for encoding in tokenizer.encode_batch(some) for number in encoding.ids]
        counts += np.bincount(np.asarray(found, dtype=np.int64), minlength=len(counts))
    return counts


def choose_pieces(folder: Path, counts: NDArray[np.int64], size: int | None) -> list[int]:
    """The ids that stay, ascending: those that must, then the most frequent up to `size`; None: all that occur.

    Special tokens must, and what lets every counted text be read without [UNK]. A piece comes with its company: its
    characters (WordPiece) or its derivation (BPE). One that does not fit with it is left out for the next.

    Raises:
        ConfigError: `size` is too small for what must stay, or the tokenizer is of another kind.
    """
    record = _read(folder)
    model, ids = record["model"], _ids(record)
    specials, company = _specials(record, folder), _company(model)
    counted = [piece for piece in model["vocab"] if counts[ids[piece]] > 0 and piece not in specials]
    kept = specials | _must_stay(model, counted, company)
    if size is not None and size < len(kept):
        what = "which special tokens and single characters take"
        raise ConfigError(f"vocabulary.size: got {size}, allowed: {len(kept)} or more, {what}")
    pieces = counted if size is None else model["vocab"]
    for piece in sorted(pieces, key=lambda piece: (-counts[ids[piece]], ids[piece])):
        if piece not in kept:
            more = {piece} | (company(piece) - kept)
            if size is None or len(kept) + len(more) <= size:
                kept |= more
    return sorted(ids[piece] for piece in kept)


def prune_tokenizer(source: Path, out: Path, kept: Sequence[int]) -> None:
    """Write the tokenizer of `source` with only these ids, numbered from 0 in their old order, to the folder `out`.

    Raises:
        ConfigError: they lack a special token, hold an id that there is not, or the tokenizer is of another kind.
    """
    record = _read(source)
    ids, specials = _ids(record), _specials(record, source)
    new_of = {old: new for new, old in enumerate(sorted(set(kept)))}
    if not {ids[piece] for piece in specials} <= new_of.keys() <= set(ids.values()):
        needed = ", ".join(sorted(specials, key=ids.__getitem__))
        raise ConfigError(f"vocabulary: got {len(new_of)} ids, allowed: ids of {source}, with those of {needed}")
    _renumber(record, new_of)
    write_json(out / TOKENIZER, record)
    for name, content in _other_files(source).items():
        if tokens := content.get("added_tokens_decoder"):
            staying = [(int(old), token) for old, token in tokens.items() if int(old) in new_of]
            content["added_tokens_decoder"] = {str(new_of[old]): token for old, token in staying}
        write_json(out / name, content)
    _write_vocabulary(record, source, out)


def renumbered_ids(record: dict[str, Any], new_of: Mapping[int, int]) -> dict[str, Any]:
    """A model's config with its vocab_size and every ``*_token_id`` as after pruning; an id that went is None."""
    changed = {name: new_of.get(old) for name, old in record.items() if name.endswith("_token_id")}
    return {**record, **changed, "vocab_size": len(new_of)}


def _read(folder: Path) -> Record:
    record: Record = read_json(folder / TOKENIZER)
    model = record["model"]
    seems = "Unigram" if isinstance(model["vocab"], list) else "BPE" if "merges" in model else "WordPiece"
    kind = model.setdefault("type", seems)  # older files name none
    if kind not in _MODELS:
        raise ConfigError(f"vocabulary: got a {kind} tokenizer, allowed: {', '.join(_MODELS)}; leave the stage out")
    return record


def _other_files(folder: Path) -> dict[str, Record]:
    return {name: read_json(folder / name) for name in _OTHER_FILES if (folder / name).is_file()}


def _ids(record: Record) -> dict[str, int]:
    """The id of every token, also of those that were added to the model's own."""
    return {**record["model"]["vocab"], **{token["content"]: token["id"] for token in record["added_tokens"]}}


def _specials(record: Record, folder: Path) -> set[str]:
    """The tokens that any part of the tokenizer names, or that transformers looks for."""
    settings = {key: value for content in _other_files(folder).values() for key, value in content.items()}
    named = [token for key, token in settings.items() if key.endswith("_token")]
    named += settings.get("additional_special_tokens") or []
    names = {token["content"] if isinstance(token, dict) else token for token in [*named, *record["added_tokens"]]}
    names |= {*_USUAL_SPECIALS, record["model"].get("unk_token"), (record.get("padding") or {}).get("pad_token")}
    for processor in _processors(record.get("post_processor") or {}):
        names |= {token for special in processor.get("special_tokens", {}).values() for token in special["tokens"]}
        names |= {processor[side][0] for side in ("sep", "cls") if side in processor}
    return names & _ids(record).keys()


def _company(model: Record) -> Company:
    vocab, prefix, suffix = set(model["vocab"]), _mark(model), model.get("end_of_word_suffix") or ""
    if model["type"] == "BPE":
        joins = {(first, second): (rank, made) for rank, (first, second, made) in enumerate(_merges(model))}
        return lambda piece: vocab & _derivation(_symbols(piece, prefix, suffix), joins)
    return lambda piece: vocab & {mark + symbol[-1] for symbol in _symbols(piece, prefix) for mark in ("", prefix)}


def _must_stay(model: Record, counted: list[str], company: Company) -> set[str]:
    """The pieces without which a counted text, or one of plain ASCII, could become [UNK]."""
    vocab, prefix = set(model["vocab"]), _mark(model)
    if model["type"] == "BPE":  # what no merge makes: in byte-level BPE, the bytes
        return vocab - {made for _, _, made in _merges(model)}
    ascii_forms = vocab & (_ASCII | {prefix + char for char in _ASCII})
    unspelled = {piece for piece in counted if not vocab.issuperset(_symbols(piece, prefix))}
    # At the start of a word such a piece is found as before. Inside, another match could run across where it starts.
    inside = any(piece.startswith(prefix) for piece in unspelled)
    return ascii_forms.union(counted if inside else unspelled, *map(company, counted))


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


def _merges(model: Record) -> list[tuple[str, str, str]]:
    """Each merge as its two parts and what they become; files hold ``"a b"`` or ``["a", "b"]``."""
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", [])]
    return [(first, second, first + second[len(_mark(model)) :]) for first, second in pairs]


def _processors(processor: Record) -> list[Record]:
    """The post-processor, and those inside it where it is a Sequence."""
    return [processor, *(one for inner in processor.get("processors", ()) for one in _processors(inner))]


def _renumber(record: Record, new_of: Mapping[int, int]) -> None:
    model, padding = record["model"], record.get("padding")
    left = sorted((new_of[old], piece) for piece, old in model["vocab"].items() if old in new_of)
    vocab = model["vocab"] = {piece: new for new, piece in left}
    if model["type"] == "BPE":  # each in the format it had
        every = zip(model["merges"], _merges(model), strict=True)
        model["merges"] = [merge for merge, parts in every if vocab.keys() >= set(parts)]
    for token in record["added_tokens"]:
        token["id"] = new_of[token["id"]]
    if padding:
        padding["pad_id"] = new_of.get(padding["pad_id"], 0)  # one that went was not the padding token's
    for processor in _processors(record.get("post_processor") or {}):
        for special in processor.get("special_tokens", {}).values():
            special["ids"] = [new_of[old] for old in special["ids"]]
        for side in {"sep", "cls"} & processor.keys():
            processor[side][1] = new_of[processor[side][1]]


def _write_vocabulary(record: Record, source: Path, out: Path) -> None:
    """The same vocabulary in the older files, of those that the source has; a line of vocab.txt is an id."""
    if (source / "vocab.json").is_file():
        write_json(out / "vocab.json", record["model"]["vocab"])
    lines = {"vocab.txt": [piece for _, piece in sorted((new, piece) for piece, new in _ids(record).items())]}
    lines["merges.txt"] = ["#version: 0.2", *(f"{first} {second}" for first, second, _ in _merges(record["model"]))]
    for name in lines:
        if (source / name).is_file():
            with guard_disk(out / name):
                (out / name).write_text("\n".join([*lines[name], ""]), encoding="utf-8", newline="\n")
