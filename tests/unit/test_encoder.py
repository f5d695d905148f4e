"""Text to ids: cut or in pieces, padded or cut to a length, with the artifact's own tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import WORDS, tiny_tokenizer

from edgetf.core.errors import ArtifactError
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.inputs import Batch, Piece

pytest.importorskip("tokenizers", reason="needs edgetf[ort]")
PAD, UNK, CLS, SEP = range(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of whole words."""
    path = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(path)
    return path


def text(words: int) -> str:
    return " ".join(WORDS[k % len(WORDS)] for k in range(words))


def only(encoder: Encoder, given: str, pair: str | None = None) -> list[Piece]:
    return encoder.pieces([given], None if pair is None else [pair])[0]


def test_a_short_text_is_one_piece_between_its_special_tokens(folder: Path) -> None:
    pieces = only(Encoder(folder, 16), text(3))
    assert len(pieces) == 1
    ids = pieces[0].input_ids
    assert (len(ids), ids[0], ids[-1]) == (5, CLS, SEP)
    assert pieces[0].token_type_ids == [0] * 5


def test_an_empty_text_is_its_special_tokens(folder: Path) -> None:
    assert only(Encoder(folder, 16), "")[0].input_ids == [CLS, SEP]


def test_a_long_text_is_cut_and_keeps_its_last_special_token(folder: Path) -> None:
    pieces = only(Encoder(folder, 8), text(30))
    assert len(pieces) == 1
    assert (len(pieces[0].input_ids), pieces[0].input_ids[0], pieces[0].input_ids[-1]) == (8, CLS, SEP)


@pytest.mark.parametrize(("words", "wanted"), [(1, 1), (6, 1), (7, 2), (12, 2), (13, 3), (30, 5)])
def test_a_long_text_can_be_read_in_pieces(folder: Path, words: int, wanted: int) -> None:
    pieces = only(Encoder(folder, 8, "chunk"), text(words))
    assert len(pieces) == wanted
    assert all(len(piece.input_ids) <= 8 for piece in pieces)
    assert all((piece.input_ids[0], piece.input_ids[-1]) == (CLS, SEP) for piece in pieces)


def test_pieces_hold_every_word_once_and_in_order(folder: Path) -> None:
    whole = only(Encoder(folder, 64), text(30))[0].input_ids[1:-1]
    pieces = only(Encoder(folder, 8, "chunk"), text(30))
    assert [number for piece in pieces for number in piece.input_ids[1:-1]] == whole


def test_a_pair_has_both_token_types(folder: Path) -> None:
    piece = only(Encoder(folder, 32), text(2), text(3))[0]
    assert piece.token_type_ids == [0] * 4 + [1] * 4


def test_a_long_pair_is_cut_to_the_length(folder: Path) -> None:
    piece = only(Encoder(folder, 16), text(20), text(20))[0]
    assert len(piece.input_ids) == len(piece.token_type_ids) == 16
    assert piece.input_ids.count(SEP) == 2


def test_pairs_must_be_as_many_as_texts(folder: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        Encoder(folder, 16).pieces(["a", "b"], ["c"])


def test_many_texts_keep_their_order(folder: Path) -> None:
    encoder = Encoder(folder, 16)
    texts = [text(k) for k in range(1, 9)]
    assert [len(pieces[0].input_ids) for pieces in encoder.pieces(texts)] == [k + 2 for k in range(1, 9)]
    assert encoder.pieces(texts)[3] == encoder.pieces([texts[3]])[0]
    assert encoder.pieces([]) == []


def test_a_batch_pads_to_its_longest_piece(folder: Path) -> None:
    encoder = Encoder(folder, 16)
    batch = encoder.batch([only(encoder, text(2))[0], only(encoder, text(5))[0]])
    assert batch.input_ids.shape == batch.attention_mask.shape == batch.token_type_ids.shape == (2, 7)
    assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int64
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 0, 0, 0], [1] * 7]
    assert batch.input_ids[0, 4:].tolist() == [PAD] * 3


def test_a_batch_pads_with_the_tokenizers_own_id(folder: Path) -> None:
    encoder = Encoder(folder, 16, pad_id=9)
    batch = encoder.batch([only(encoder, text(2))[0]], 8)
    assert batch.input_ids[0, 4:].tolist() == [9] * 4
    assert batch.attention_mask.sum() == 4


def test_a_batch_cuts_what_is_longer_than_its_length(folder: Path) -> None:
    encoder = Encoder(folder, 16)
    piece = only(encoder, text(10))[0]
    batch = encoder.batch([piece], 4)
    assert batch.input_ids.tolist() == [piece.input_ids[:4]]
    assert batch.attention_mask.tolist() == [[1] * 4]


def test_a_batch_gives_the_arrays_that_a_model_asks_for() -> None:
    batch = Batch(*(np.full((1, 2), k) for k in range(3)))
    named = batch.named(["token_type_ids", "input_ids"])
    assert list(named) == ["token_type_ids", "input_ids"]
    assert named["token_type_ids"].tolist() == [[2, 2]]


def test_a_missing_tokenizer_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="tokenizer.json: not found; the artifact needs its tokenizer"):
        Encoder(tmp_path, 16)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe", b'{"model": 3}'], ids=repr)
def test_a_broken_tokenizer_is_an_artifact_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="not a tokenizer"):
        Encoder(tmp_path, 16)


def test_padding_that_the_tokenizer_brings_along_is_switched_off(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=32)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert len(only(Encoder(tmp_path, 16), text(9))[0].input_ids) == 11
