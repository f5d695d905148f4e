"""The logits of a text are the mean over its pieces, and a model that gives NaN is called broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import WORDS, tiny_tokenizer

from edgetf.core.errors import ParityError
from edgetf.runtime.backend import Session
from edgetf.runtime.classify import classify, run_piece
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.fake import FakeBackend
from edgetf.runtime.model import Model

pytest.importorskip("tokenizers", reason="needs edgetf[ort]")
VOCABULARY = 200
WEIGHT = np.random.default_rng(1).normal(size=(VOCABULARY, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and a fake model."""
    path = tmp_path_factory.mktemp("model")
    tiny_tokenizer(path)
    (path / "model.json").write_text(json.dumps({"weight": WEIGHT.tolist(), "bias": [0.0, 0.5]}))
    return path


@pytest.fixture
def session(folder: Path) -> Session:
    """The fake model, loaded."""
    return FakeBackend().load(folder / "model.json", 1)


TEXTS = [" ".join(WORDS[k : k + n]) for k, n in ((0, 3), (5, 1), (9, 20))]


def test_every_text_has_its_row(session: Session, folder: Path) -> None:
    encoder = Encoder(folder, 16)
    logits = classify(session, encoder.inputs(TEXTS), 0)
    assert logits.shape == (3, 2)
    for row, pieces in enumerate(encoder.pieces(TEXTS)):
        assert logits[row] == pytest.approx(WEIGHT[pieces[0].input_ids].mean(axis=0) + [0, 0.5])


def test_a_text_in_pieces_is_their_mean(session: Session, folder: Path) -> None:
    encoder = Encoder(folder, 8, "chunk")
    pieces = encoder.pieces([TEXTS[2]])[0]
    assert len(pieces) > 2
    wanted = np.mean([run_piece(session, 0, piece) for piece in pieces], axis=0)
    assert classify(session, encoder.inputs([TEXTS[2]]), 0)[0] == pytest.approx(wanted)


def test_a_second_text_counts(session: Session, folder: Path) -> None:
    encoder = Encoder(folder, 32)
    assert not np.allclose(
        classify(session, encoder.inputs(["bank"], ["goal"]), 0),
        classify(session, encoder.inputs(["bank"], ["rain"]), 0),
    )


def test_a_session_of_fixed_lengths_gets_the_shortest_that_fits(session: Session, folder: Path) -> None:
    encoder, widths = Encoder(folder, 16), []
    session.lengths = (4, 8, 16)
    plain = session.run

    def run(batch):  # type: ignore[no-untyped-def]
        widths.append(batch.input_ids.shape[1])
        return plain(batch)

    session.run = run  # type: ignore[method-assign]
    classify(session, encoder.inputs(["bank", "bank shares profit", " ".join(WORDS[:12])]), 0)
    assert widths == [4, 8, 16]


def test_every_text_is_ticked_off(session: Session, folder: Path) -> None:
    ticks: list[tuple[int, int]] = []
    classify(session, Encoder(folder, 16).inputs(TEXTS), 0, lambda done, total: ticks.append((done, total)))
    assert ticks == [(1, 3), (2, 3), (3, 3)]


def test_no_texts_give_no_rows(session: Session, folder: Path) -> None:
    assert len(classify(session, Encoder(folder, 16).inputs([]), 0)) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_logit_that_is_no_number_is_a_parity_error(folder: Path, tmp_path: Path, value: float) -> None:
    encoder = Encoder(folder, 16)
    weight = WEIGHT.copy()
    weight[encoder.pieces(["bank"])[0][0].input_ids[1], 1] = value
    (tmp_path / "model.json").write_text(json.dumps({"weight": weight.tolist(), "bias": [0, 0]}))
    broken = FakeBackend().load(tmp_path / "model.json", 1)
    with pytest.raises(ParityError, match="1 of 2 texts give NaN or infinite logits"):
        classify(broken, encoder.inputs(["bank loan", "goal"]), 0)


def test_a_model_brings_its_own_length_rule(folder: Path) -> None:
    model = Model("m", folder, "model.json", "fake", max_length=8, long_texts="chunk", pad_id=7)
    encoder = model.encoder()
    assert (encoder.max_length, encoder.long_texts, encoder.pad_id) == (8, "chunk", 7)
