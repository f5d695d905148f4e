"""Rows are cleaned before they are split, the same seed gives the same rows, and evaluation rows are kept apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from tiny import LABELS, tiny_dataset, tiny_rows, write_csv

from edgetf.config.data import DataConfig, SplitConfig
from edgetf.core.errors import ConfigError, DataError
from edgetf.data.dataset import Dataset, Split, load_dataset, refuse_leaks, renumbered
from edgetf.data.labels import NO_LABEL, _label_order

Rows = Sequence[tuple[str, str]]


def config(tmp_path: Path, rows: Rows, name: str = "rows.csv", **fields: Any) -> DataConfig:
    return DataConfig(source=str(write_csv(tmp_path / name, rows)), **fields)


def read(tmp_path: Path, rows: Rows, **fields: Any) -> Dataset:
    return load_dataset(config(tmp_path, rows, **fields))


def all_texts(data: Dataset) -> list[str]:
    return [*data.train.texts, *data.dev.texts, *data.test.texts]


def test_every_row_is_used_once(tmp_path: Path) -> None:
    rows = tiny_rows(120)
    data = read(tmp_path, rows)
    assert sorted(all_texts(data)) == sorted(text for text, _ in rows)
    assert (data.duplicates, data.conflicts) == (0, 0)


def test_rows_keep_their_labels(tmp_path: Path) -> None:
    rows = dict(tiny_rows(60))
    data = read(tmp_path, list(rows.items()))
    assert data.label_names == list(LABELS)
    for split in (data.train, data.dev, data.test):
        assert [data.label_names[label] for label in split.labels] == [rows[text] for text in split.texts]


def test_splits_are_stratified(tmp_path: Path) -> None:
    rows = [(f"a {k}", "a") for k in range(100)] + [(f"b {k}", "b") for k in range(20)]
    data = read(tmp_path, rows, split=SplitConfig(dev=0.1, test=0.3, seed=1))
    counts = {
        use: [split.labels.count(k) for k in (0, 1)] for use, split in vars(data).items() if isinstance(split, Split)
    }
    assert counts == {"train": [60, 12], "dev": [10, 2], "test": [30, 6]}


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(tmp_path: Path) -> None:
    rows = tiny_rows(120)
    first, again = (read(tmp_path, rows, split=SplitConfig(seed=3)) for _ in range(2))
    other = read(tmp_path, rows, split=SplitConfig(seed=4))
    assert first == again
    assert first.test != other.test
    assert first.fingerprint != other.fingerprint


def test_the_fingerprint_feels_text_and_label(tmp_path: Path) -> None:
    rows = tiny_rows(60)
    prints = {
        read(tmp_path, rows).fingerprint,
        read(tmp_path, [(rows[0][0] + "!", rows[0][1]), *rows[1:]]).fingerprint,
        read(tmp_path, [(rows[0][0], rows[1][1]), *rows[1:]]).fingerprint,
    }
    assert len(prints) == 3


def test_rows_that_differ_by_case_and_white_space_are_the_same(tmp_path: Path) -> None:
    rows = [*tiny_rows(30), (tiny_rows(1)[0][0].upper(), tiny_rows(1)[0][1])]
    data = read(tmp_path, [*rows, ("  " + rows[1][0].replace(" ", " \n "), rows[1][1])])
    assert len(all_texts(data)) == 30
    assert (data.duplicates, data.conflicts) == (2, 0)


def test_repeats_with_another_label_are_counted_and_the_first_is_kept(tmp_path: Path) -> None:
    rows = tiny_rows(30)
    data = read(tmp_path, [*rows, (rows[0][0], "sport"), (rows[0][0], "money")])
    assert rows[0][1] == "money"
    assert (data.duplicates, data.conflicts) == (2, 1)
    for split in (data.train, data.dev, data.test):
        if rows[0][0] in split.texts:
            assert split.labels[split.texts.index(rows[0][0])] == LABELS.index("money")


def test_empty_texts_are_dropped(tmp_path: Path) -> None:
    assert len(all_texts(read(tmp_path, [*tiny_rows(30), ("", "money"), ("  ", "sport")]))) == 30


def test_a_pair_is_the_same_only_as_a_pair(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"text": f"q{k}", "b": f"a{j}", "label": "xy"[(k + j) % 2]} for k in range(5) for j in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    data = load_dataset(DataConfig(source=str(path), text_pair="b"))
    assert data.duplicates == 1
    assert len(all_texts(data)) == 20
    assert data.train.pairs is not None
    assert len(data.train.pairs) == len(data.train)


def test_classes_are_numbered_by_value_then_by_alphabet(tmp_path: Path) -> None:
    rows = [(f"{label} {k}", label) for label in ("10", "b", "2", "a", "-1") for k in range(5)]
    assert read(tmp_path, rows).label_names == ["-1", "2", "10", "a", "b"]


def test_the_order_of_classes_does_not_depend_on_the_rows() -> None:
    """Also with a class that Python takes for "not a number", which compares with nothing."""
    names = ["nan", "1", "0", "word"]
    assert len({tuple(sorted(order, key=_label_order)) for order in permutations(names)}) == 1


def test_labels_of_json_become_words(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{k}", "label": k % 2}) + "\n" for k in range(20)))
    assert load_dataset(DataConfig(source=str(path))).label_names == ["0", "1"]


def test_at_most_so_many_training_rows_are_used(tmp_path: Path) -> None:
    rows = tiny_rows(120)
    whole, cut = read(tmp_path, rows), read(tmp_path, rows, max_train_rows=20)
    assert len(cut.train) == 20
    assert set(cut.train.texts) < set(whole.train.texts)
    assert (cut.dev, cut.test) == (whole.dev, whole.test)
    assert read(tmp_path, rows, max_train_rows=10_000) == whole


def test_test_rows_may_come_from_elsewhere(tmp_path: Path) -> None:
    rows = tiny_rows(90)
    apart = write_csv(tmp_path / "test.csv", rows[60:])
    data = read(tmp_path, rows[:60], test_source=str(apart))
    assert data.test.texts == [text for text, _ in rows[60:]]
    assert len(data.train) + len(data.dev) == 60


def test_dev_rows_may_come_from_elsewhere(tmp_path: Path) -> None:
    rows = tiny_rows(90)
    apart = write_csv(tmp_path / "dev.csv", rows[60:])
    data = read(tmp_path, rows[:60], dev_source=str(apart))
    assert data.dev.texts == [text for text, _ in rows[60:]]


def test_a_leaked_evaluation_row_is_refused(tmp_path: Path) -> None:
    rows = tiny_rows(60)
    apart = write_csv(tmp_path / "test.csv", [*tiny_rows(20, seed=9), (rows[0][0].upper(), rows[0][1]),
                                              (rows[1][0], rows[1][1]), (rows[2][0], rows[2][1])])  # fmt: skip
    with pytest.raises(
        DataError, match=r"rows also stand in the evaluation rows, e.g. '.*'; remove them from one side"
    ):
        read(tmp_path, rows, test_source=str(apart))


def test_a_leak_is_counted() -> None:
    held_out = Split(["A b"], None, [0])
    with pytest.raises(DataError, match="data: 2 of 3 calibration rows"):
        refuse_leaks(Split(["a B", "c", "a  b"], None, [0, 0, 0]), held_out, "calibration")
    refuse_leaks(Split(["c"], None, [0]), held_out, "calibration")


def test_a_class_of_the_test_rows_must_be_known(tmp_path: Path) -> None:
    apart = write_csv(tmp_path / "test.csv", [("new words", "politics"), ("more words", "sport")])
    with pytest.raises(DataError, match="class 'politics' of the dev or test rows is not in the training rows"):
        read(tmp_path, tiny_rows(30), test_source=str(apart))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no rows"),
        ([("a", "x"), ("b", "x")], r"one class only \('x'\)"),
        ([("a", "x"), ("b", "")], "1 of 2 rows of .* have no label"),
        ([("a", "x"), ("b", "  ")], "1 of 2 rows"),
        ([("", "x"), (" ", "y")], "every text is empty"),
        ([*[(f"a{k}", "x") for k in range(9)], ("b", "y")], "a class has 1 rows, needed are 3"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(tmp_path: Path, rows: Rows, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, rows)


def test_a_class_that_only_repeats_other_rows_is_refused(tmp_path: Path) -> None:
    """Its rows go as duplicates, and a class without any row would be left."""
    rows = tiny_rows(30)
    with pytest.raises(DataError, match="a class has 0 rows"):
        read(tmp_path, [*rows, *((text, "echo") for text, _ in rows[:4])])


@pytest.mark.parametrize("field", ["text", "label", "text_pair"])
def test_a_missing_column_is_a_data_error(tmp_path: Path, field: str) -> None:
    with pytest.raises(DataError, match=f"data.{field}: there is no column 'texd'; did you mean text"):
        read(tmp_path, tiny_rows(12), **{field: "texd"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bbc_new", r"no file or data card 'bbc_new'; did you mean bbc_news\?"),
        ("/nowhere/rows.csv", "does not exist; give a file, a folder, package:, npm:, hub: or a data card"),
        ("rows.csv", "does not exist"),
        ("x" * 300, "data.source"),
        ("~no_such_user_of_ours/rows.csv", "data.source"),
    ],
)
def test_a_source_that_is_not_there_says_what_to_give(tmp_path: Path, source: str, message: str,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        load_dataset(DataConfig(source=source))


def test_every_class_keeps_rows_to_train_on(tmp_path: Path) -> None:
    rows = [(f"a {k}", "a") for k in range(100)] + [(f"b {k}", "b") for k in range(3)]
    try:
        data = read(tmp_path, rows, split=SplitConfig(dev=0.3, test=0.5))
    except ConfigError:
        return  # refusing it is fine too
    assert set(data.train.labels) == {0, 1}


def test_half_a_surrogate_pair_does_not_reach_the_tokenizer(tmp_path: Path) -> None:
    """A text that was cut in the middle of an emoji: valid JSON, but no tokenizer takes it."""
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"row {k} \ud83d", "label": "xy"[k % 2]} for k in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = all_texts(load_dataset(DataConfig(source=str(path))))
    assert len(texts) == 20
    assert all(text.encode("utf-8").endswith(b" ?") for text in texts)


def test_renumbering_changes_ids_and_names_together() -> None:
    data = tiny_dataset(30, 6, 6)
    fitted = renumbered(data, [2, 0, 1])
    assert fitted.label_names == ["sport", "weather", "money"]
    for before, after in ((data.train, fitted.train), (data.dev, fitted.dev), (data.test, fitted.test)):
        assert after.texts == before.texts
        assert [fitted.label_names[k] for k in after.labels] == [data.label_names[k] for k in before.labels]
    assert fitted.fingerprint != data.fingerprint


def test_renumbering_to_the_same_ids_changes_nothing() -> None:
    data = tiny_dataset(30, 6, 6)
    assert renumbered(data, [0, 1, 2]) is data


def test_select_takes_text_pair_and_label_of_a_row() -> None:
    rows = Split(["a", "b", "c"], ["x", "y", "z"], [0, 1, 2])
    assert rows.select([2, 0]) == Split(["c", "a"], ["z", "x"], [2, 0])
    assert replace(rows, pairs=None).select([1]) == Split(["b"], None, [1])


def unlabelled(tmp_path: Path, more: list[dict[str, Any]], **fields: Any) -> Dataset:
    path = tmp_path / "more.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in more))
    return read(tmp_path, tiny_rows(60), unlabelled=str(path), **fields)


def test_unlabelled_texts_need_no_label_and_stand_once(tmp_path: Path) -> None:
    data = unlabelled(tmp_path, [{"text": t} for t in ("new one", "New  ONE", "", "  ", "another", "new one")])
    assert data.unlabelled == Split(["new one", "another"], None, [NO_LABEL, NO_LABEL])


def test_unlabelled_texts_that_stand_in_a_split_are_left_out(tmp_path: Path) -> None:
    before = read(tmp_path, tiny_rows(60))
    known = [split.texts[0] for split in (before.train, before.dev, before.test)]
    data = unlabelled(tmp_path, [{"text": text.upper()} for text in known] + [{"text": "new", "label": "sport"}])
    assert data.unlabelled == Split(["new"], None, [NO_LABEL])


def test_unlabelled_texts_change_only_the_transfer_fingerprint(tmp_path: Path) -> None:
    before = read(tmp_path, tiny_rows(60))
    assert before.unlabelled is None
    assert before.transfer_fingerprint() == before.fingerprint
    one, other = (unlabelled(tmp_path, [{"text": text}]) for text in ("new", "newer"))
    assert one.fingerprint == other.fingerprint == before.fingerprint
    assert (one.train, one.dev, one.test) == (before.train, before.dev, before.test)
    assert len({data.transfer_fingerprint() for data in (before, one, other)}) == 3


def test_unlabelled_pairs(tmp_path: Path) -> None:
    rows = [{"text": f"a {k}", "other": f"b {k}", "label": LABELS[k % 3]} for k in range(30)]
    path, more = tmp_path / "rows.jsonl", tmp_path / "more.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more.write_text("".join(json.dumps(row) + "\n" for row in [rows[0], {"text": "a 0", "other": "b 1"}]))
    data = load_dataset(DataConfig(source=str(path), text_pair="other", unlabelled=str(more)))
    assert data.unlabelled == Split(["a 0"], ["b 1"], [NO_LABEL])


def test_unlabelled_texts_stay_when_classes_are_renumbered(tmp_path: Path) -> None:
    data = renumbered(unlabelled(tmp_path, [{"text": "new"}]), [2, 0, 1])
    assert data.unlabelled == Split(["new"], None, [NO_LABEL])


def test_unlabelled_texts_of_another_column_are_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'text'"):
        unlabelled(tmp_path, [{"body": "new"}])
