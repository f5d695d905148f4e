"""Remove pieces from a tokenizer, so that a smaller embedding can ship with it.

A text whose pieces all stay is read as before; edgetf.models.pieces says why, for every kind of model. Tokens that were
added to a model are found in a text before it, the longest first: fewer of them find the others where they were found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import ConfigError, needs
from edgetf.core.files import guard_disk, read_json, write_json
from edgetf.models.pieces import Record, company_of, merges_of, must_stay, vocabulary, without
from edgetf.runtime.encoder import TOKENIZER

_MODELS = ("WordPiece", "BPE", "Unigram")
_TEMPLATE = "chat_template.jinja"
_OTHER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
# transformers adds those of its class that it does not find, with ids behind the vocabulary
_USUAL_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>")
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


def choose_pieces(folder: Path, counts: NDArray[np.int64], size: int | None, unused_added: bool = True) -> list[int]:
    """The ids that stay, ascending: those that must, then the most frequent up to `size`; None: all that occur.

    Special tokens must, and what lets every counted text be read without [UNK]. A piece comes with its company: its
    characters (WordPiece, Unigram) or its derivation (BPE). One that does not fit with it is left out for the next.
    Without `unused_added`, tokens that were added to the model go where no text holds and nothing names them.

    Raises:
        ConfigError: `size` is too small for what must stay, or the tokenizer is of another kind.
    """
    record = _read(folder)
    model, ids = record["model"], _ids(record)
    added = {token["content"] for token in record["added_tokens"]}
    specials = _named(record, folder) | (added if unused_added else {token for token in added if counts[ids[token]]})
    company, own = company_of(model), [piece for piece in vocabulary(model) if piece not in added]
    counted = [piece for piece in own if counts[ids[piece]] > 0 and piece not in specials]
    kept = specials | must_stay(model, counted, company)
    if size is not None and size < len(kept):
        what = "which special tokens and single characters take"
        raise ConfigError(f"vocabulary.size: got {size}, allowed: {len(kept)} or more, {what}")
    pieces = counted if size is None else own
    for piece in sorted(pieces, key=lambda piece: (-counts[ids[piece]], ids[piece])):
        if len(kept) == size:
            break
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
    ids, specials = _ids(record), _named(record, source)
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
    """A model's config with its vocab_size and every ``*_token_id`` as after pruning; an id that went is None.

    >>> renumbered_ids({"eos_token_id": [1, 9], "pad_token_id": 9}, {1: 0, 4: 1})
    {'eos_token_id': [0], 'pad_token_id': None, 'vocab_size': 2}
    """
    return {**record, **token_ids(record, new_of), "vocab_size": len(new_of)}


def token_ids(record: Record, new_of: Mapping[int, int]) -> dict[str, Any]:
    """Every ``*_token_id`` of a config as after pruning; of several, those that stay."""

    def renumbered(old: Any) -> Any:
        return [new_of[number] for number in old if number in new_of] if isinstance(old, list) else new_of.get(old)

    return {name: renumbered(old) for name, old in record.items() if name.endswith("_token_id")}


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
    return {**vocabulary(record["model"]), **{token["content"]: token["id"] for token in record["added_tokens"]}}


def _named(record: Record, folder: Path) -> set[str]:
    """The tokens that any part of the tokenizer names, or a chat is written with, or that transformers looks for."""
    settings = {key: value for content in _other_files(folder).values() for key, value in content.items()}
    named = [token for key, token in settings.items() if key.endswith("_token")]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = settings.get(key) or []
        named += more.values() if isinstance(more, dict) else more
    names = {token["content"] if isinstance(token, dict) else token for token in named}
    names |= {*_USUAL_SPECIALS, record["model"].get("unk_token"), (record.get("padding") or {}).get("pad_token")}
    for processor in _processors(record.get("post_processor") or {}):
        names |= {token for special in processor.get("special_tokens", {}).values() for token in special["tokens"]}
        names |= {processor[side][0] for side in ("sep", "cls") if side in processor}
    model, chat = record["model"], str(settings.get("chat_template") or "")
    if model["type"] == "Unigram" and model.get("unk_id") is not None:
        names.add(model["vocab"][model["unk_id"]][0])
    if (folder / _TEMPLATE).is_file():
        chat += (folder / _TEMPLATE).read_text(encoding="utf-8")
    names |= {
        token["content"] for token in record["added_tokens"] if len(token["content"]) > 2 and token["content"] in chat
    }
    return names & _ids(record).keys()


def _processors(processor: Record) -> list[Record]:
    """The post-processor, and those inside it where it is a Sequence."""
    return [processor, *(one for inner in processor.get("processors", ()) for one in _processors(inner))]


def _renumber(record: Record, new_of: Mapping[int, int]) -> None:
    padding = record.get("padding")
    without(record["model"], new_of)
    record["added_tokens"] = [token for token in record["added_tokens"] if token["id"] in new_of]
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
    lines["merges.txt"] = ["#version: 0.2", *(f"{first} {second}" for first, second, _ in merges_of(record["model"]))]
    for name in lines:
        if (source / name).is_file():
            with guard_disk(out / name):
                (out / name).write_text("\n".join([*lines[name], ""]), encoding="utf-8", newline="\n")
