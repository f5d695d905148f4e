"""Calibration rows as a file takes them: text by text, unpadded where it takes any length, never held together."""

from __future__ import annotations

import numpy as np
import pytest
from exported import DATA, TEXTS, context_of, exported

from edgetf.data.dataset import Split
from edgetf.runtime.encoder import Encoder
from edgetf.stages.calibrate import feeds_of

NAMES = ("input_ids", "attention_mask", "token_type_ids")
ROWS = DATA.train.select(list(range(150)))  # more than are tokenized at once


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return exported("bert").encoder


def test_every_text_comes_once_in_its_order(encoder: Encoder) -> None:
    found = [feed["input_ids"][0].tolist() for feed in feeds_of(ROWS, encoder, NAMES, None)()]
    assert found == [pieces[0].input_ids for pieces in encoder.pieces(ROWS.texts)]


def test_it_begins_anew_every_time(encoder: Encoder) -> None:
    """The ends are looked for in a first pass, the histograms in a second."""
    feeds = feeds_of(ROWS, encoder, NAMES, None)
    once, again = (list(feeds()) for _ in range(2))
    assert len(once) == len(again) == 150
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one["input_ids"], other["input_ids"])


def test_nothing_is_padded_where_any_length_is_taken(encoder: Encoder) -> None:
    for feed in feeds_of(ROWS, encoder, NAMES, None)():
        assert feed["input_ids"].shape == feed["attention_mask"].shape == (1, int(feed["attention_mask"].sum()))


def test_padded_to_the_next_length_where_lengths_are_fixed(encoder: Encoder) -> None:
    widths = set()
    for feed in feeds_of(ROWS, encoder, NAMES, (8, 32))():
        width, tokens = feed["input_ids"].shape[1], int(feed["attention_mask"].sum())
        assert width == (8 if tokens <= 8 else 32)
        assert (feed["input_ids"][0, tokens:] == encoder.pad_id).all()
        widths.add(width)
    assert widths == {8, 32}


def test_only_the_inputs_that_the_file_has(encoder: Encoder) -> None:
    assert all(list(feed) == ["attention_mask"] for feed in feeds_of(ROWS, encoder, ("attention_mask",), None)())


def test_every_piece_of_a_long_text_counts() -> None:
    context = context_of(data={"source": "somewhere.csv", "max_length": 8, "long_texts": "chunk"})
    encoder = context.encoder(exported("bert").artifact.path, 0)
    long = Split([" ".join(TEXTS.texts[:3])], None, [0])
    found = list(feeds_of(long, encoder, NAMES, None)())
    assert len(found) == len(encoder.pieces(long.texts)[0]) > 2
    assert all(feed["input_ids"].shape[1] <= 8 for feed in found)


def test_pairs_are_read_as_pairs(encoder: Encoder) -> None:
    pairs = Split(TEXTS.texts[:5], TEXTS.texts[5:10], [0] * 5)
    for feed in feeds_of(pairs, encoder, NAMES, None)():
        assert set(feed["token_type_ids"][0].tolist()) == {0, 1}


def test_rows_are_tokenized_as_they_are_needed(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = Encoder.pieces

    def counted(self: Encoder, texts: list[str], pairs: list[str] | None = None) -> object:
        asked.append(len(texts))
        return real(self, texts, pairs)

    monkeypatch.setattr(Encoder, "pieces", counted)
    stream = feeds_of(ROWS, encoder, NAMES, None)()
    assert asked == []
    next(stream)
    assert sum(asked) < len(ROWS)
    assert len(list(stream)) == 149 and sum(asked) == 150
