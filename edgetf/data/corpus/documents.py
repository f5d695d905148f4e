"""Documents of a corpus, read from its sources, without duplicates, and split whole.

A text file is one document, and so is a row of a table. Two documents are the same if their texts are equal after case
folding and joining white space; the later one goes before splitting, because a text that stands in training and in
evaluation makes every number too good.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from edgetf.config.language.data import CorpusConfig
from edgetf.core.artifact import key_of
from edgetf.core.errors import ConfigError, DataError
from edgetf.data.cards import DataCard, load_card
from edgetf.data.corpus.tagged import plain_text
from edgetf.data.sources import resolve
from edgetf.data.tables import READABLE, column, decode, read_table

TEXT_SUFFIXES = (".txt", ".md")


@dataclass(frozen=True)
class Corpus:
    """Documents for each use, in an order that the seed draws, and what they are known by in cache keys."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    fingerprint: str
    duplicates: int = 0  # documents left out because they stood there before


def load_corpus(config: CorpusConfig, seed: int) -> Corpus:
    """Read, clean and split the documents of a recipe; every source gives each use its share.

    The split is its own seed's alone, so that a student of another `seed` is never tested by what its teacher has read;
    `seed` puts the training documents in order, and so draws those that `max_train_tokens` leaves.

    Raises:
        DataError: a source is not there or has no documents, or there are too few of them to split.
        DeviceError: a package that holds a source is not installed.
    """
    seen: set[str] = set()
    duplicates = 0
    splits: dict[str, list[str]] = {"test": [], "dev": [], "train": []}
    for number, source in enumerate(config.sources):
        kept = []
        for document in read_documents(config, source):
            identity = " ".join(document.casefold().split())
            if identity in seen:
                duplicates += 1
            elif identity:
                seen.add(identity)
                kept.append(document)
        random.Random(f"{config.split.seed}/{number}").shuffle(kept)  # not the name: a folder may be moved
        test, dev = (round(len(kept) * share) for share in (config.split.test, config.split.dev))
        splits["test"] += kept[:test]
        splits["dev"] += kept[test : test + dev]
        splits["train"] += kept[test + dev :]
    empty = [use for use, documents in splits.items() if not documents]
    if empty:
        raise DataError(
            f"data.sources: {len(seen)} different documents, of which none is left for {' and '.join(empty)}; give "
            "more documents, or larger shares in data.split"
        )
    for use, documents in splits.items():
        order = seed if use == "train" else config.split.seed
        random.Random(f"{order}/{use}").shuffle(documents)
    return Corpus(
        **{use: tuple(documents) for use, documents in splits.items()},
        fingerprint=key_of(splits),
        duplicates=duplicates,
    )


def read_documents(config: CorpusConfig, source: str) -> list[str]:
    """The documents of one source as they stand there, with the ends of their lines made equal.

    Raises:
        DataError: it is not there, cannot be read, or has no documents.
    """
    try:
        card = load_card(source)
        path, encoding = resolve(config, source, card)
        texts = _read(config, path, encoding, card)
    except ConfigError as error:  # what it is called in a recipe of labelled rows
        raise DataError(str(error).replace("data.source:", "data.sources:")) from None
    if card is not None and len(texts) != card.rows:
        raise DataError(f"{source}: read {len(texts)} documents, its card says {card.rows}")
    if not any(text.strip() for text in texts):
        raise DataError(f"data.sources: {source} has no text; give files that have, or another data.text column")
    return ["\n".join(line.rstrip() for line in text.splitlines()).strip() for text in texts]


def _read(config: CorpusConfig, path: Path, encoding: str, card: DataCard | None) -> list[str]:
    """A text of every file, or of every row."""
    if path.is_dir():
        patterns = [card.files] if card else [f"*{suffix}" for suffix in TEXT_SUFFIXES]
        files = sorted({file for pattern in patterns for file in path.rglob(pattern) if _is_data(file, path)})
        if not files:
            raise DataError(
                f"data.source: {path} has no {' or '.join(patterns)} files; give a folder that has, or a file"
            )
        texts = [decode(file, encoding) for file in files]
        return [plain_text(text) for text in texts] if card and card.tagged else texts
    if path.suffix.lower() in TEXT_SUFFIXES:
        return [decode(path, encoding)]
    if path.suffix.lower() not in READABLE:
        allowed = ", ".join((*TEXT_SUFFIXES, *READABLE))
        raise DataError(f"data.source: {path} is {path.suffix or 'without a suffix'}, allowed: {allowed}")
    name = card.text if card else config.text
    values = column(read_table(path, encoding), name, "text")
    return ["" if value is None else str(value).encode("utf-8", "replace").decode("utf-8") for value in values]


def _is_data(file: Path, top: Path) -> bool:
    """A file that no hidden or private folder holds."""
    return file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(top).parts)
