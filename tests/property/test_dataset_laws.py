"""Whatever the rows: no row in two splits, no row lost, and the same again for the same seed."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgetf.config.data import DataConfig, SplitConfig
from edgetf.core.errors import ConfigError, DataError
from edgetf.data.dataset import Dataset, Split, load_dataset, renumbered
from edgetf.data.tables import read_table

often = settings(max_examples=60, deadline=None)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
rows_of_any_kind = st.lists(st.tuples(texts, st.sampled_from("abc")), min_size=1, max_size=60)
many_rows = st.lists(st.integers(3, 40), min_size=2, max_size=4).map(
    lambda counts: [(f"{label} {k}", str(label)) for label, count in enumerate(counts) for k in range(count)]
)


def load(rows: list[tuple[str, str]], split: SplitConfig) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        return load_dataset(DataConfig(source=str(path), split=split))


def splits(data: Dataset) -> tuple[Split, Split, Split]:
    return data.train, data.dev, data.test


def identities(data: Dataset) -> list[str]:
    return [split.identity(row) for split in splits(data) for row in range(len(split))]


@often
@given(rows=rows_of_any_kind, seed=st.integers(0, 5))
def test_no_row_stands_twice_and_none_is_lost(rows: list[tuple[str, str]], seed: int) -> None:
    try:
        data = load(rows, SplitConfig(seed=seed))
    except DataError:
        return
    found = Counter(identities(data))
    assert max(found.values()) == 1
    wanted = {" ".join(text.casefold().split()) for text, _ in rows} - {""}
    assert set(found) == wanted
    assert len(rows) - data.duplicates >= len(wanted)


@often
@given(rows=many_rows, dev=st.floats(0, 0.6), test=st.floats(0, 0.6), seed=st.integers(0, 5))
def test_every_class_stands_in_every_split(rows: list[tuple[str, str]], dev: float, test: float, seed: int) -> None:
    assume(dev + test < 0.99)
    try:
        data = load(rows, SplitConfig(dev=dev, test=test, seed=seed))
    except ConfigError:
        return
    for split in splits(data):
        assert set(split.labels) == set(range(len(data.label_names)))


@often
@given(rows=many_rows, seed=st.integers(0, 1000))
def test_the_same_seed_gives_the_same_data(rows: list[tuple[str, str]], seed: int) -> None:
    assert load(rows, SplitConfig(seed=seed)) == load(rows, SplitConfig(seed=seed))


@often
@given(rows=many_rows, fresh=st.lists(texts, max_size=10), data=st.data())
def test_unlabelled_texts_are_new_and_stand_once(
    rows: list[tuple[str, str]], fresh: list[str], data: st.DataObject
) -> None:
    more = data.draw(st.permutations([*fresh, *fresh, *(text for text, _ in rows)]))
    with tempfile.TemporaryDirectory() as folder:
        path, others = Path(folder) / "rows.jsonl", Path(folder) / "more.jsonl"
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        others.write_text("".join(json.dumps({"text": text}) + "\n" for text in more))
        before = load_dataset(DataConfig(source=str(path)))
        after = load_dataset(DataConfig(source=str(path), unlabelled=str(others)))
    assert splits(after) == splits(before)
    assert after.fingerprint == before.fingerprint
    assert after.unlabelled is not None
    known = set(identities(before)) | {""}
    found = [after.unlabelled.identity(row) for row in range(len(after.unlabelled))]
    assert sorted(found) == sorted({" ".join(text.casefold().split()) for text in fresh} - known)


@often
@given(rows=many_rows, data=st.data())
def test_renumbering_there_and_back_is_where_it_began(rows: list[tuple[str, str]], data: st.DataObject) -> None:
    before = load(rows, SplitConfig())
    ids = data.draw(st.permutations(range(len(before.label_names))))
    back = renumbered(renumbered(before, ids), [ids.index(k) for k in range(len(ids))])
    assert back.label_names == before.label_names
    assert splits(back) == splits(before)


@often
@given(
    rows=st.lists(st.dictionaries(texts, texts | st.integers() | st.none(), max_size=3), max_size=5),
    escaped=st.booleans(),
)
def test_json_lines_round_trip(rows: list[dict[str, str]], escaped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows), encoding="utf-8")
        assert read_table(path) == rows
