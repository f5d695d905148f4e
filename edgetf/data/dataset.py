"""From labelled rows to fixed splits: de-duplicate, stratify by class, and keep the evaluation rows apart.

Two rows are the same if their texts are equal after case folding and joining white space. Duplicates go before
splitting, because a text that stands in training and in evaluation makes every number too good.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from edgetf.config.data import DataConfig
from edgetf.core.artifact import key_of
from edgetf.core.errors import ConfigError, DataError
from edgetf.core.task_names import CLASSIFICATION, TaskName, by_word
from edgetf.data.cards import load_card
from edgetf.data.labels import Label, read_labels, strata, unknown
from edgetf.data.sources import resolve
from edgetf.data.tables import column, read_table
from edgetf.data.tagged import tagged_texts, tags_of
from edgetf.tasks import task_of


@dataclass(frozen=True)
class Split:
    """Rows of one use; `pairs` is None where the task has one text. Three columns of equal length."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[Label]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: list[int]) -> Split:
        """The rows at these positions."""
        pairs = self.pairs
        return Split(
            [self.texts[i] for i in rows],
            None if pairs is None else [pairs[i] for i in rows],
            [self.labels[i] for i in rows],
        )

    def identity(self, row: int) -> str:
        """What makes two rows the same."""
        text = " ".join(self.texts[row].casefold().split())
        return text if self.pairs is None else f"{text}\t{' '.join(self.pairs[row].casefold().split())}"


@dataclass(frozen=True)
class Dataset:
    """Fixed splits, the class names in the order of their ids, and what was cleaned away."""

    label_names: list[str]
    train: Split
    dev: Split
    test: Split
    fingerprint: str
    duplicates: int
    conflicts: int
    unlabelled: Split | None = None  # more texts for distillation; their labels are unknown

    def transfer_fingerprint(self) -> str:
        """Of all that a student may learn from; `fingerprint` leaves out the unlabelled texts, and fits a teacher."""
        more = self.unlabelled
        return self.fingerprint if more is None else key_of([self.fingerprint, more.texts, more.pairs])


def renumbered(data: Dataset, ids: list[int]) -> Dataset:
    """The same rows where class k is called ``ids[k]``, to fit a teacher that already has a head."""
    if ids == list(range(len(ids))):
        return data
    names = [data.label_names[ids.index(k)] for k in range(len(ids))]
    return _relabelled(data, names, lambda label: ids[label], key_of([data.fingerprint, ids]))


def retagged(data: Dataset, names: list[str]) -> Dataset:
    """The same rows with a tag for every word, where the tags have the numbers of a teacher that knows more of them."""
    ids = [names.index(name) for name in data.label_names]
    return _relabelled(data, names, lambda row: [ids[tag] for tag in row], key_of([data.fingerprint, names]))


def _relabelled(data: Dataset, names: list[str], fit: Callable[[Any], Any], fingerprint: str) -> Dataset:
    """The same rows, the label of each as `fit` makes it."""
    splits = {name: getattr(data, name) for name in ("train", "dev", "test")}
    fitted = {name: replace(split, labels=[fit(label) for label in split.labels]) for name, split in splits.items()}
    return replace(data, label_names=names, fingerprint=fingerprint, **fitted)


def load_dataset(config: DataConfig, task: TaskName = CLASSIFICATION) -> Dataset:
    """Read, clean and split the data of a recipe.

    Raises:
        DataError: no rows, labels missing or not of the task, a column that is not there, leaked rows.
    """
    labelled = task_of(task).labelled
    main, names, duplicates, conflicts = _clean(*read_rows(config, config.source, task, labelled), task)
    apart = {}
    for use, source in (("dev", config.dev_source), ("test", config.test_source)):
        if source is not None:
            apart[use], _, _, _ = _clean(*read_rows(config, source, task, labelled), task, known=names)
    splits = _split(main, strata(task, main.labels, names), config, apart)
    if config.max_train_rows is not None and len(splits["train"]) > config.max_train_rows:
        order = list(range(len(splits["train"])))
        random.Random(config.split.seed).shuffle(order)
        splits["train"] = splits["train"].select(sorted(order[: config.max_train_rows]))
    refuse_leaks(splits["train"], splits["test"], "training")
    refuse_leaks(splits["dev"], splits["test"], "dev")
    contents = {use: [split.texts, split.pairs, split.labels] for use, split in splits.items()}
    unlabelled = _unlabelled(config, list(splits.values()), task) if config.unlabelled else None
    return Dataset(
        label_names=names,
        train=splits["train"],
        dev=splits["dev"],
        test=splits["test"],
        fingerprint=key_of({"names": names, **contents}),
        duplicates=duplicates,
        conflicts=conflicts,
        unlabelled=unlabelled,
    )


def _unlabelled(config: DataConfig, others: list[Split], task: TaskName) -> Split:
    """Texts that stand in no split, each once. What the evaluation rows hold must not be learned from either."""
    texts, pairs, _ = read_rows(config, str(config.unlabelled), task, labelled=False)
    rows = Split(texts, pairs, [unknown(task, text) for text in texts])
    seen = {split.identity(row) for split in others for row in range(len(split))}
    kept = []
    for row in range(len(rows)):
        identity = rows.identity(row)
        if identity.strip() and identity not in seen:
            seen.add(identity)
            kept.append(row)
    return rows.select(kept)


def refuse_leaks(used: Split, others: Split, use: str, other: str = "evaluation") -> None:
    """Rows of one use must not stand among those of an `other`.

    Raises:
        DataError: with how many do, and one of them.
    """
    held_out = {others.identity(row) for row in range(len(others))}
    leaked = [row for row in range(len(used)) if used.identity(row) in held_out]
    if leaked:
        raise DataError(
            f"data: {len(leaked)} of {len(used)} {use} rows also stand in the {other} rows, e.g. "
            f"{used.texts[leaked[0]][:60]!r}; remove them from one side"
        )


def read_rows(
    config: DataConfig, source: str, task: TaskName, labelled: bool
) -> tuple[list[str], list[str] | None, list[Any]]:
    """The text, pair and label columns of one source; without labels where they are not asked for."""
    card = load_card(source)
    path, encoding = resolve(config, source, card)
    rows = read_table(path, encoding)
    if not rows:
        raise DataError(f"data.source: {source} has no rows")
    if card is not None and len(rows) != card.rows:
        raise DataError(f"{source}: read {len(rows)} rows, its card says {card.rows}")
    text, label = (card.text, card.label) if card else (config.text, config.label)
    if by_word(task):
        texts = tagged_texts(rows, text, source)
        return texts, None, tags_of(rows, label, texts, source) if labelled else [""] * len(texts)
    texts = [_as_text(value) for value in column(rows, text, "text")]
    pairs = None
    if config.text_pair is not None:
        pairs = [_as_text(value) for value in column(rows, config.text_pair, "text_pair")]
    if not labelled:
        return texts, pairs, [""] * len(texts)
    labels = [_as_text(value).strip() for value in column(rows, label, "label")]
    missing = sum(not value for value in labels)
    if missing:
        raise DataError(f"data.label: {missing} of {len(labels)} rows of {source} have no label; fill or drop them")
    return texts, pairs, labels


def _as_text(value: Any) -> str:
    """A cell as text; half a surrogate pair, as a text cut inside an emoji has it, becomes a question mark."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")


def _clean(
    texts: list[str], pairs: list[str] | None, words: list[Any], task: TaskName, known: list[str] | None = None
) -> tuple[Split, list[str], int, int]:
    """Drop empty and repeated rows and read the labels; also counts the repeats and those that disagree."""
    labels, names = read_labels(task, words, known)
    rows = Split(texts, pairs, labels)
    seen: dict[str, int] = {}
    kept: list[int] = []
    duplicates = conflicts = 0
    for row in range(len(rows)):
        identity = rows.identity(row)
        if not identity.strip():
            continue
        if identity in seen:
            duplicates += 1
            conflicts += rows.labels[row] != rows.labels[seen[identity]]
            continue
        seen[identity] = row
        kept.append(row)
    if not kept:
        raise DataError("data.text: every text is empty")
    return rows.select(kept), names, duplicates, conflicts


def _split(rows: Split, groups: list[int], config: DataConfig, apart: dict[str, Split]) -> dict[str, Split]:
    """Train, dev and test rows with an equal share of every group; the same seed gives the same rows."""
    rng = random.Random(config.split.seed)
    chosen: dict[str, list[int]] = {"train": [], "dev": [], "test": []}
    for k in sorted(set(groups)):
        mine = [row for row in range(len(rows)) if groups[row] == k]
        rng.shuffle(mine)
        test = 0 if "test" in apart else max(1, round(len(mine) * config.split.test))
        dev = 0 if "dev" in apart else max(1, round(len(mine) * config.split.dev))
        chosen["test"] += mine[:test]
        chosen["dev"] += mine[test : test + dev]
        if test + dev >= len(mine):
            raise ConfigError(
                f"data.split: of a class with {len(mine)} rows nothing is left to train on; lower data.split.dev or "
                "data.split.test"
            )
        chosen["train"] += mine[test + dev :]
    return {use: apart.get(use) or rows.select(sorted(picked)) for use, picked in chosen.items()}
