"""Rows from every kind of file, and one clear message for every way in which a file can be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetf.core.errors import DataError
from edgetf.data.tables import column, read_table

ROWS = [{"text": 'a "quoted", text', "label": "x"}, {"text": "second\nline", "label": "y"}]


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_with_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text,label\r\n"a ""quoted"", text",x\r\n"second\nline",y\r\n')
    assert read_table(path) == ROWS


def test_tsv(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "text\tlabel\na, b\tx\n")
    assert read_table(path) == [{"text": "a, b", "label": "x"}]


def test_jsonl_without_its_empty_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", "\n".join([json.dumps(ROWS[0]), "", json.dumps(ROWS[1]), ""]))
    assert read_table(path) == ROWS


@pytest.mark.parametrize("strange", ["\u2028", "\u2029", "\x85"], ids=ascii)
def test_jsonl_lines_end_at_line_feeds_only(tmp_path: Path, strange: str) -> None:
    """JSON leaves these characters as they are, and Python's `splitlines` takes them for line ends."""
    rows = [{"text": f"before{strange}after", "label": "x"}]
    path = write(tmp_path, "a.jsonl", json.dumps(rows[0], ensure_ascii=False) + "\n")
    assert read_table(path) == rows


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet") == ROWS


def test_a_folder_of_folders_is_a_row_a_file(tmp_path: Path) -> None:
    for name, text in (
        ("y/1.txt", "one"),
        ("x/2.txt", "two"),
        ("x/1.txt", "three"),
        ("x/no.md", "-"),
        ("_z/1.txt", "-"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_table(tmp_path) == [
        {"text": "three", "label": "x"},
        {"text": "two", "label": "x"},
        {"text": "one", "label": "y"},
    ]


def test_a_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, "A.CSV", "text,label\na,x\n")) == [{"text": "a", "label": "x"}]


def test_the_first_encoding_that_fits_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\ncafé,x\n".encode("latin-1"))
    assert read_table(path, "utf-8, latin-1")[0]["text"] == "café"
    assert read_table(write(tmp_path, "b.csv", "text,label\ncafé,x\n"), "utf-8,latin-1")[0]["text"] == "café"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path, name: str) -> None:
    """Spreadsheets save "CSV UTF-8" with one."""
    content = {"a.csv": "text,label\na,x\n", "a.tsv": "text\tlabel\na\tx\n", "a.jsonl": '{"text": "a", "label": "x"}\n'}
    assert read_table(write(tmp_path, name, "\ufeff" + content[name])) == [{"text": "a", "label": "x"}]


def test_wrong_encoding_names_the_setting(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\ncafé,x\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not utf-8; set data.encoding, e.g. latin-1 or cp1252"):
        read_table(path)


def test_a_file_in_a_class_folder_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    write(tmp_path / "x", "bad.txt", b"caf\xe9")
    with pytest.raises(DataError, match="bad.txt is not utf-8"):
        read_table(tmp_path)


@pytest.mark.parametrize("encoding", ["klingon", "", "utf-8,", "base64", "hex"], ids=repr)
def test_an_encoding_that_there_is_not_is_a_data_error(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, "a.csv", b"text,label\ncaf\xe9,x\n")
    with pytest.raises(DataError, match="data.encoding"):
        read_table(path, encoding)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text"\n', "line 2: not JSON"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "line 2: got list, allowed: an object"),
        ("a.jsonl", "3\n", "line 1: got int"),
        ("a.xlsx", "", "is .xlsx, allowed: .csv, .tsv, .jsonl, .parquet"),
        ("a", "", "is without a suffix"),
        ("a.csv", "text,label\n" + "x" * 200_000 + ",y\n", "line 2: field larger than"),
        ("a.parquet", "no parquet", "not Parquet"),
        ("a.parquet", "", "not Parquet"),
    ],
)
def test_a_broken_file_is_a_data_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, name, content))


@pytest.mark.parametrize("at", ["cut", "footer", "pages"])
def test_damaged_parquet_is_a_data_error(tmp_path: Path, at: str) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_pylist(ROWS * 50), path)
    raw = bytearray(path.read_bytes())
    match at:
        case "cut":
            del raw[len(raw) // 2 :]
        case "footer":
            raw[-200:-10] = b"\xff" * 190
        case "pages":
            raw[4:60] = b"\xff" * 56
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match="not Parquet"):
        read_table(path)


def test_a_file_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_table(tmp_path / "no.csv")


def test_a_folder_without_classes_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y.txt").write_text("loose")
    with pytest.raises(DataError, match=r"has no CLASS/\*.txt files"):
        read_table(tmp_path)


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert read_table(write(tmp_path, "a.csv", "text,label\n")) == []
    assert read_table(write(tmp_path, "b.jsonl", "")) == []


def test_column_gives_every_value() -> None:
    assert column(ROWS, "label", "label") == ["x", "y"]


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        (ROWS, "txt", r"data.text: there is no column 'txt'; did you mean text\?"),
        (ROWS, "zzz", "known: label, text"),
        ([{"text": "a", None: ["b", "c"]}], "txt", r"did you mean text\?"),
    ],
)
def test_a_missing_column_names_the_nearest(rows: list[dict[Any, Any]], name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        column(rows, name, "text")


def test_a_column_may_be_missing_in_some_rows() -> None:
    assert column([{"label": "x"}, {"label": "y", "text": "b"}], "text", "text") == [None, "b"]
