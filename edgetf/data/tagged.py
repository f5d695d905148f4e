"""Rows with a tag for every word: a column of lists of words, and one of lists of tags.

A text is kept as its words with single spaces between them, from which they are found again.
"""

from __future__ import annotations

import re
from typing import Any

from edgetf.core.errors import DataError
from edgetf.data.tables import Record, column
from edgetf.runtime.words import words_of

_TAG = re.compile(r"O|[BI]-\S+")


def tagged_texts(rows: list[Record], text: str, source: str) -> list[str]:
    """The texts of a column of word lists, or of texts.

    Raises:
        DataError: a word is empty or holds white space.
    """
    return [
        " ".join(_items(value, "text", source, number)) for number, value in enumerate(column(rows, text, "text"), 1)
    ]


def tags_of(rows: list[Record], label: str, texts: list[str], source: str) -> list[list[str]]:
    """The tags of every text.

    Raises:
        DataError: as many as there are words they must be, each O, B-TYPE or I-TYPE.
    """
    found = []
    for number, (value, text) in enumerate(zip(column(rows, label, "label"), texts, strict=True), 1):
        tags, words = _items(value, "label", source, number), len(words_of(text))
        if len(tags) != words:
            raise DataError(f"data.label: row {number} of {source} has {words} words and {len(tags)} tags")
        wrong = [tag for tag in tags if not _TAG.fullmatch(tag)]
        if wrong:
            raise DataError(
                f"data.label: row {number} of {source} has the tag {wrong[0][:40]!r}, allowed: O, B-TYPE, I-TYPE"
            )
        found.append(tags)
    return found


def _items(value: Any, field: str, source: str, number: int) -> list[str]:
    """A list of words, or those of a text."""
    if value is None:
        return []
    if not isinstance(value, list):
        return words_of(str(value))
    items = [str(item).encode("utf-8", "replace").decode("utf-8") for item in value]
    wrong = [item for item in items if words_of(item) != [item]]
    if wrong:
        raise DataError(
            f"data.{field}: row {number} of {source} has {wrong[0][:40]!r} in its list, "
            "allowed: words without white space"
        )
    return items
