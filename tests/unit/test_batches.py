"""Batches: every row once, an order that seed and epoch fix, and little padding."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import BERT_SPECIALS, ROBERTA_SPECIALS, tiny_split, tiny_tokenizer

from edgetf.data.dataset import Split
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.inputs import Piece
from edgetf.training.batches import BucketSampler, Collator, Rows, TensorBatch, encode_split, in_order

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(place)
    return place


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return Encoder(folder, 64)


@pytest.fixture(scope="module")
def rows(encoder: Encoder) -> Rows:
    return encode_split(tiny_split(103), encoder)


def rows_of(lengths: list[int]) -> Rows:
    """Rows whose pieces have these lengths."""
    pieces = [Piece([7] * length, [0] * length) for length in lengths]
    return Rows(pieces, [0] * len(lengths), list(range(len(lengths))))


def order_of(rows: Rows, batch_size: int = 8, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    sampler = BucketSampler(rows, batch_size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


class TestEncodeSplit:
    def test_gives_one_piece_a_row_where_texts_are_cut(self, rows: Rows) -> None:
        assert len(rows) == 103
        assert rows.sources == list(range(103))
        assert rows.labels == tiny_split(103).labels

    def test_gives_every_piece_of_a_long_text(self, folder: Path) -> None:
        split = Split(["goal " * 20, "rain", "bank " * 9], None, [1, 2, 0])
        rows = encode_split(split, Encoder(folder, 8, "chunk"))
        assert rows.sources == [0, 0, 0, 0, 1, 2, 2]
        assert rows.labels == [1, 1, 1, 1, 2, 0, 0]
        words = [len(piece.input_ids) - 2 for piece in rows.pieces]
        assert words == [6, 6, 6, 2, 1, 6, 3]

    def test_gives_pairs_their_token_types(self, folder: Path) -> None:
        split = Split(["goal match"], ["rain"], [0])
        piece = encode_split(split, Encoder(folder, 64)).pieces[0]
        assert piece.token_type_ids == [0, 0, 0, 0, 1, 1]


class TestBucketSampler:
    @given(
        lengths=st.lists(st.integers(1, 40), min_size=1, max_size=200),
        batch_size=st.integers(1, 9),
        seed=st.integers(0, 5),
        epoch=st.integers(0, 5),
    )
    def test_every_position_once_an_epoch(self, lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
        rows = rows_of(lengths)
        batches = order_of(rows, batch_size, seed, epoch)
        assert sorted(chain(*batches)) == list(range(len(lengths)))
        assert all(1 <= len(batch) <= batch_size for batch in batches)
        assert len(batches) == len(BucketSampler(rows, batch_size, seed))

    def test_count_holds_over_many_windows(self) -> None:
        rows = rows_of([1 + k % 30 for k in range(1234)])
        batches = order_of(rows, batch_size=4)
        assert len(batches) == len(BucketSampler(rows, 4, 0)) == 309
        assert sorted(chain(*batches)) == list(range(1234))

    def test_same_seed_and_epoch_same_order(self, rows: Rows) -> None:
        assert order_of(rows, seed=3, epoch=2) == order_of(rows, seed=3, epoch=2)

    def test_iterating_twice_gives_the_same(self, rows: Rows) -> None:
        sampler = BucketSampler(rows, 8, 0)
        assert list(sampler) == list(sampler)

    def test_another_epoch_another_order(self, rows: Rows) -> None:
        orders = [order_of(rows, epoch=epoch) for epoch in range(4)]
        assert all(one != other for k, one in enumerate(orders) for other in orders[:k])

    def test_another_seed_another_order(self, rows: Rows) -> None:
        assert order_of(rows, seed=0) != order_of(rows, seed=1)

    def test_order_does_not_depend_on_global_randomness(self, rows: Rows) -> None:
        torch.manual_seed(1)
        first = order_of(rows)
        torch.manual_seed(2)
        assert order_of(rows) == first

    def test_lengths_are_not_in_order(self) -> None:
        """A model that sees all short texts first learns something else."""
        rows = rows_of([1 + k % 40 for k in range(400)])
        means = [float(np.mean([len(rows.pieces[k].input_ids) for k in batch])) for batch in order_of(rows)]
        assert means != sorted(means) and means != sorted(means, reverse=True)

    def test_little_padding(self) -> None:
        rng = np.random.default_rng(0)
        rows = rows_of(rng.integers(4, 128, size=2000).tolist())

        def padding(batches: list[list[int]]) -> float:
            lengths = [[len(rows.pieces[k].input_ids) for k in batch] for batch in batches]
            cells = sum(max(batch) * len(batch) for batch in lengths)
            return 1 - sum(map(sum, lengths)) / cells

        at_random = [list(range(k, k + 16)) for k in range(0, 2000, 16)]
        assert padding(order_of(rows, batch_size=16)) < 0.05 < 0.3 < padding(at_random)


class TestCollator:
    def test_pads_to_the_longest_and_masks_the_rest(self, encoder: Encoder) -> None:
        rows = encode_split(Split(["goal", "rain wind snow"], None, [1, 2]), encoder)
        batch = TensorBatch(**Collator(rows, encoder)([1, 0]))
        assert batch.input_ids.shape == batch.attention_mask.shape == batch.token_type_ids.shape == (2, 5)
        assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
        assert batch.input_ids[1, 3:].tolist() == [0, 0]
        assert batch.labels.tolist() == [2, 1]
        assert batch.positions.tolist() == [1, 0]
        assert {tensor.dtype for tensor in vars(batch).values()} == {torch.int64}

    @pytest.mark.parametrize(("specials", "pad_id"), [(BERT_SPECIALS, 0), (ROBERTA_SPECIALS, 1)])
    def test_pads_with_the_models_own_id(self, tmp_path: Path, specials: tuple[str, ...], pad_id: int) -> None:
        tiny_tokenizer(tmp_path, specials=specials)
        encoder = Encoder(tmp_path, 64, pad_id=pad_id)
        rows = encode_split(Split(["goal", "rain wind snow"], None, [1, 2]), encoder)
        batch = TensorBatch(**Collator(rows, encoder)([0, 1]))
        assert batch.input_ids[0, 3:].tolist() == [pad_id, pad_id]
        assert specials[pad_id] == "[PAD]"

    def test_gives_token_types_only_where_they_are_taken(self, rows: Rows, encoder: Encoder) -> None:
        batch = TensorBatch(**Collator(rows, encoder)([0]))
        assert set(batch.inputs(True)) == {"input_ids", "attention_mask", "token_type_ids"}
        assert set(batch.inputs(False)) == {"input_ids", "attention_mask"}


class TestParts:
    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_hold_every_row_once(self, rows: Rows, encoder: Encoder, count: int) -> None:
        batch = TensorBatch(**Collator(rows, encoder)([4, 9, 2, 7]))
        parts = [batch.part(index, count) for index in range(count)]
        assert sum(len(part) for part in parts) == len(batch) == 4
        assert sorted(chain.from_iterable(part.positions.tolist() for part in parts)) == [2, 4, 7, 9]
        for part in parts:
            assert part.input_ids.shape == part.attention_mask.shape == (len(part), batch.input_ids.shape[1])


class TestInOrder:
    def test_every_piece_once_longest_last(self, rows: Rows, encoder: Encoder) -> None:
        batches = list(in_order(rows, encoder, batch_size=10))
        seen = list(chain(*(positions for positions, _ in batches)))
        assert sorted(seen) == list(range(103))
        lengths = [len(rows.pieces[k].input_ids) for k in seen]
        assert lengths == sorted(lengths)
        for positions, batch in batches:
            assert batch.positions.tolist() == positions
            assert batch.labels.tolist() == [rows.labels[k] for k in positions]

    def test_only_those_that_are_asked_for(self, rows: Rows, encoder: Encoder) -> None:
        wanted = [5, 90, 17, 3]
        seen = list(chain(*(positions for positions, _ in in_order(rows, encoder, wanted, batch_size=3))))
        assert sorted(seen) == sorted(wanted)

    def test_only_none_of_them(self, rows: Rows, encoder: Encoder) -> None:
        assert list(in_order(rows, encoder, [])) == []
