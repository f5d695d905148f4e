"""Read rows from CSV, TSV, JSONL, Parquet, CoNLL, or a folder that holds one sub-folder of text files a class."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from edgetf.core.errors import DataError, near_match, needs

Record = dict[str, Any]
BYTE_ORDER_MARK = "\ufeff"
READABLE = (".csv", ".tsv", ".jsonl", ".parquet", ".conll")


def read_table(path: Path, encoding: str = "utf-8") -> list[Record]:
    """Every row as a mapping from column to value.

    A folder gives the columns ``text`` and ``label`` (the sub-folder's name), a CoNLL file ``tokens`` and ``tags``.
    `encoding` may name several, separated by commas; each file is read with the first that fits.

    Raises:
        DataError: missing, unreadable, not decodable, or of an unknown kind.
    """
    if path.is_dir():
        return _class_folders(path, encoding)
    if not path.is_file():
        raise DataError(f"data.source: {path} does not exist")
    match path.suffix.lower():
        case ".csv":
            return _delimited(path, encoding, ",")
        case ".tsv":
            return _delimited(path, encoding, "\t")
        case ".jsonl":
            return _json_lines(path, encoding)
        case ".parquet":
            return _parquet(path)
        case ".conll":
            return _conll(path, encoding)
        case other:
            raise DataError(f"data.source: {path} is {other or 'without a suffix'}, allowed: {', '.join(READABLE)}")


def decode(path: Path, encoding: str) -> str:
    """The text of a file, by the first of the encodings that fits.

    Raises:
        DataError: none does, or Python knows none of that name.
    """
    raw = path.read_bytes()
    tried = [name.strip() for name in encoding.split(",")]
    for name in tried:
        try:
            return raw.decode(name).removeprefix(BYTE_ORDER_MARK)
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise DataError(f"data.encoding: {name} is not an encoding that Python knows") from None
    raise DataError(f"data.encoding: {path} is not {' or '.join(tried)}; set data.encoding, e.g. latin-1 or cp1252")


def _delimited(path: Path, encoding: str, delimiter: str) -> list[Record]:
    reader = csv.DictReader(io.StringIO(decode(path, encoding), newline=""), delimiter=delimiter)
    try:
        return list(reader)
    except csv.Error as error:
        raise DataError(f"data.source: {path}, line {reader.line_num + 1}: {error}") from None


def _json_lines(path: Path, encoding: str) -> list[Record]:
    rows = []
    for number, line in enumerate(decode(path, encoding).split("\n"), start=1):  # a text may hold other line ends
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"data.source: {path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"data.source: {path}, line {number}: got {type(row).__name__}, allowed: an object")
        rows.append(row)
    return rows


def _conll(path: Path, encoding: str) -> list[Record]:
    """A word a line, first column the word and last one its tag; a blank line between texts."""
    rows: list[Record] = []
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*decode(path, encoding).split("\n"), ""], start=1):
        columns = line.split()
        if columns and columns[0] != "-DOCSTART-":
            if len(columns) < 2:
                raise DataError(
                    f"data.source: {path}, line {number}: got {columns[0][:40]!r} alone, allowed: a word and its tag"
                )
            tokens.append(columns[0])
            tags.append(columns[-1])
        elif tokens:
            rows.append({"tokens": tokens, "tags": tags})
            tokens, tags = [], []
    return rows


def _parquet(path: Path) -> list[Record]:
    with needs("compress"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"data.source: {path}: not Parquet ({' '.join(str(error).split())})") from None
    rows: list[Record] = table.to_pylist()
    return rows


def _class_folders(path: Path, encoding: str) -> list[Record]:
    classes = [child for child in sorted(path.iterdir()) if child.is_dir() and not child.name.startswith(("_", "."))]
    rows = [
        {"text": decode(file, encoding), "label": folder.name}
        for folder in classes
        for file in sorted(folder.glob("*.txt"))
    ]
    if not rows:
        raise DataError(f"data.source: {path} has no CLASS/*.txt files; give such a folder or a file")
    return rows


def column(rows: list[Record], name: str, field: str) -> list[Any]:
    """One column.

    Raises:
        DataError: no row has it; names the near match.
    """
    if not any(name in row for row in rows):
        known = {str(key) for row in rows[:100] for key in row if key is not None}
        raise DataError(f"data.{field}: there is no column {name!r}{near_match(name, known)}")
    return [row.get(name) for row in rows]
