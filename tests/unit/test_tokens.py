"""Token classification: words and their first pieces, tags from files, losses and metrics by word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FAMILY_NAMES, tiny_classifier, tiny_tagged, tiny_tokenizer
from torch.nn import functional as F

from edgetf.config.data import DataConfig
from edgetf.config.recipe import Recipe
from edgetf.config.training import LossConfig
from edgetf.core.errors import DataError
from edgetf.core.metrics import Metric
from edgetf.data.dataset import Dataset, Split, load_dataset, retagged
from edgetf.data.labels import NO_LABEL
from edgetf.models.checkpoint import load_classifier, save_classifier
from edgetf.models.heads import Head, has_head
from edgetf.models.slicing import layers_of, narrow_heads, narrow_hidden
from edgetf.runtime.classify import classify
from edgetf.runtime.encoder import Encoder
from edgetf.runtime.inputs import Batch
from edgetf.runtime.words import by_text, first_tokens, word_answers, words_of
from edgetf.tasks import task_of
from edgetf.tasks.tokens import spaced, tag_numbers
from edgetf.training import blocks
from edgetf.training.batches import Collator, Rows, TensorBatch, encode_split
from edgetf.training.lessons import known_labels, label_loss, teacher_terms
from edgetf.training.teacher import Question, SoftTargets, by_row, cached_logits, infer, keep_top
from edgetf.validation.evaluation import Evaluation, read_evaluation, write_evaluation

TASK = task_of("token_classification")
HEAD = Head("token_classification")
NAMES = ["O", "B-MONEY", "I-MONEY", "B-SPORT", "I-SPORT", "B-WEATHER", "I-WEATHER"]
TEXTS = ["the goal zq rain", "bank", "storm in the market xy"]  # zq and xy become letters: two pieces each


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(made)
    return made


def encoder_of(folder: Path, max_length: int = 16, long_texts: str = "truncate") -> Encoder:
    return Encoder(folder, max_length, long_texts, by_word=True)


class TestWords:
    def test_the_first_piece_speaks_for_its_word(self, folder: Path) -> None:
        (piece,), *_ = encoder_of(folder).pieces(TEXTS)
        assert piece.words == ((1, 0), (2, 1), (3, 2), (5, 3))  # [CLS] the goal z ##q rain [SEP]

    def test_a_cut_text_has_fewer_words(self, folder: Path) -> None:
        (piece,), *_ = encoder_of(folder, max_length=5).pieces(TEXTS)
        assert [word for _, word in piece.words] == [0, 1, 2]

    def test_chunks_share_the_words_out(self, folder: Path) -> None:
        pieces, *_ = encoder_of(folder, 5, "chunk").pieces(TEXTS)
        assert [word for piece in pieces for _, word in piece.words] == [0, 1, 2, 3]
        assert pieces[1].words == ((2, 3),)  # after the rest of zq

    def test_a_word_that_the_tokenizer_drops_is_in_no_piece(self, folder: Path) -> None:
        ((piece,),) = encoder_of(folder).pieces(["goal \x07 rain"])
        assert [word for _, word in piece.words] == [0, 2]

    def test_others_know_of_no_words(self, folder: Path) -> None:
        assert all(piece.words == () for row in Encoder(folder, 16).pieces(TEXTS) for piece in row)

    @pytest.mark.parametrize("prefix", [False, True])
    @pytest.mark.parametrize("trim", [False, True])
    def test_byte_level_bpe(self, prefix: bool, trim: bool) -> None:
        """Where pieces begin with their white space, as RoBERTa's do."""
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        alphabet = pre_tokenizers.ByteLevel.alphabet()
        vocab = {piece: number for number, piece in enumerate([*sorted(alphabet), "Ġg", "Ġgo", "go"])}
        tokenizer = Tokenizer(models.BPE(vocab, [("Ġ", "g"), ("Ġg", "o"), ("g", "o")]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
        text = "go on, göl go"
        encoding = tokenizer.encode(text)
        (firsts,) = first_tokens(text, [encoding])
        assert [word for _, word in firsts] == [0, 1, 2, 3]
        beginnings = [text[slice(*encoding.offsets[token])].strip()[:1] for token, _ in firsts]
        assert beginnings == ["g", "o", "g", "g"]

    def test_answers_of_words(self) -> None:
        outputs = [np.arange(8.0).reshape(4, 2), 10 + np.arange(4.0).reshape(2, 2)]
        found = word_answers(outputs, [((1, 0), (3, 1)), ((1, 2), (7, 3))], 5)
        assert found.tolist() == [[2, 3], [6, 7], [12, 13], [0, 0], [0, 0]]

    def test_by_text(self) -> None:
        rows = by_text(np.arange(10.0)[:, None], TEXTS)
        assert [len(row) for row in rows] == [4, 1, 5]

    def test_punctuation_stands_apart(self) -> None:
        assert words_of(spaced("Ada's e-mail: (a.b@c.org)!")) == ["Ada's", "e-mail", ":", "(", "a.b@c.org", ")", "!"]


class Parrot:
    """A session that says for every token its id, so that answers can be followed to their words."""

    input_names = ("input_ids", "attention_mask")
    lengths: tuple[int, ...] | None = None
    engine: Any = None

    def run(self, batch: Batch) -> np.ndarray:
        return np.stack([batch.input_ids, 2 * batch.input_ids], axis=-1).astype(float)


def test_classify_gives_a_row_for_every_word(folder: Path) -> None:
    encoder = encoder_of(folder)
    found = classify(Parrot(), encoder.inputs(TEXTS), 0)
    assert found.shape == (10, 2)
    ids = [piece.input_ids[token] for (piece,) in encoder.pieces(TEXTS) for token, _ in piece.words]
    assert found[:, 0].tolist() == ids
    cut = classify(Parrot(), encoder_of(folder, max_length=4).inputs(TEXTS), 0)
    assert (cut[:2] != 0).all() and (cut[2:4] == 0).all()


class TestBatches:
    SPLIT = Split(TEXTS, None, [[0, 3, 0, 5], [1], [5, 0, 0, 1, 0]])

    def test_labels_and_numbers_of_words(self, folder: Path) -> None:
        encoder = encoder_of(folder)
        rows = encode_split(self.SPLIT, encoder)
        assert rows.starts == [0, 4, 5, 10]
        assert rows.answers == 10
        batch = TensorBatch(**Collator(rows, encoder)([2, 0]))
        assert batch.labels.tolist() == [5, 0, 0, 1, 0, 0, 3, 0, 5]
        assert batch.numbers.tolist() == [5, 6, 7, 8, 9, 0, 1, 2, 3]
        outputs = batch.input_ids[..., None].float()
        words = [rows.pieces[k].input_ids[token] for k in (2, 0) for token, _ in rows.pieces[k].words]
        assert batch.answers(outputs)[:, 0].tolist() == words

    @pytest.mark.parametrize("count", [1, 2, 3, 4])
    def test_parts_have_the_words_of_their_rows(self, folder: Path, count: int) -> None:
        encoder = encoder_of(folder)
        batch = TensorBatch(**Collator(encode_split(self.SPLIT, encoder), encoder)([2, 0, 1]))
        outputs = torch.randn(*batch.input_ids.shape, 7)
        wanted = {int(number): row for number, row in zip(batch.numbers, batch.answers(outputs), strict=True)}
        labels = dict(zip(batch.numbers.tolist(), batch.labels.tolist(), strict=True))
        seen: list[int] = []
        for index in range(count):
            part = batch.part(index, count)
            answers = part.answers(outputs[index::count])
            for number, label, answer in zip(part.numbers.tolist(), part.labels.tolist(), answers, strict=True):
                assert torch.equal(answer, wanted[number]) and label == labels[number]
                seen.append(number)
        assert sorted(seen) == list(range(10))

    def test_a_batch_of_texts_is_as_it_was(self, folder: Path) -> None:
        encoder = Encoder(folder, 16)
        batch = TensorBatch(**Collator(encode_split(Split(TEXTS, None, [0, 1, 2]), encoder), encoder)([1, 2]))
        outputs = torch.randn(2, 3)
        assert batch.answers(outputs) is outputs
        assert batch.numbers.tolist() == [1, 2]
        assert batch.to(torch.device("cpu")).words.shape == (0, 2)

    def test_a_batch_without_a_word(self, folder: Path) -> None:
        """All that the tokenizer leaves of some texts are its own marks."""
        encoder = encoder_of(folder)
        rows = encode_split(Split(["\x07", "goal"], None, [[1], [3]]), encoder)
        batch = TensorBatch(**Collator(rows, encoder)([0]))
        answers = batch.answers(torch.randn(1, 2, 7, requires_grad=True))
        assert answers.shape == (0, 7)
        target, known = known_labels("token_classification", answers, batch.labels)
        assert (len(target), len(known)) == (0, 0)
        assert label_loss("token_classification", answers, batch.labels).item() == 0
        soft = SoftTargets(np.ones((2, 7), np.float32), 1.0)
        (term,) = teacher_terms("token_classification", LossConfig(), answers, answers, soft, batch.numbers).values()
        term.backward()
        assert term.item() == 0

    @pytest.mark.parametrize("long_texts", ["truncate", "chunk"])
    def test_inference_is_by_word(self, folder: Path, tmp_path: Path, long_texts: str) -> None:
        model = load_classifier(tiny_classifier("bert", tmp_path), NAMES, HEAD)
        encoder = encoder_of(folder, 5, long_texts)
        rows: Rows = encode_split(self.SPLIT, encoder)
        found = by_row(infer(model, rows, encoder), rows)
        assert found.shape == (10, 7)
        read = [word + (rows.starts or [])[source] for piece, source in zip(rows.pieces, rows.sources, strict=True)
                for _, word in piece.words]  # fmt: skip
        assert sorted(np.flatnonzero(found.any(axis=1)).tolist()) == sorted(read)
        assert len(read) == (10 if long_texts == "chunk" else 3 + 1 + 3)


class TestBlocks:
    @pytest.mark.parametrize("long_texts", ["truncate", "chunk"])
    @pytest.mark.parametrize("top_k", [None, 2])
    def test_a_teacher_in_blocks_says_the_same(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_texts: str, top_k: int | None
    ) -> None:
        """Blocks of two pieces: texts of several, texts that are cut, and some without a word at every edge."""
        texts = ["\x07", *TEXTS, "\x07 bank \x07", "\x07", "storm in the market xy goal"]
        model = load_classifier(tiny_classifier("bert", tmp_path), NAMES, HEAD)
        encoder = encoder_of(folder, 5, long_texts)
        rows = encode_split(Split(texts, None, [[0] * len(words_of(text)) for text in texts]), encoder)
        monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(blocks, "LEAST", 2)
        question = Question("teacher", "texts", rows, encoder, top_k)
        assert len(question.shelf.blocks) > 2
        found = cached_logits(lambda: model, question, lambda done, total, note: None)
        whole = infer(model, rows, encoder)
        wanted = SoftTargets(whole, 1.0) if top_k is None else keep_top(whole, top_k, 1.0)
        assert found.top.shape == (rows.answers, top_k or 7)
        np.testing.assert_allclose(found.top, wanted.top, atol=1e-5)
        assert found.given(torch.arange(rows.answers)).tolist() == whole.any(axis=1).tolist()


class TestLosses:
    ANSWERS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    def test_pieces_without_a_label_are_left_out(self) -> None:
        labels = torch.tensor([1, NO_LABEL, 2, 0])
        wanted = F.cross_entropy(self.ANSWERS[[0, 2, 3]], labels[[0, 2, 3]])
        assert label_loss("token_classification", self.ANSWERS, labels).item() == pytest.approx(wanted.item())
        assert label_loss("token_classification", self.ANSWERS[:0], labels[:0]).item() == 0

    def test_the_teacher_says_nothing_of_what_it_did_not_read(self) -> None:
        teacher = np.array([[1, 2, 3], [0, 0, 0], [3, 1, 1], [0, 1, 0]], np.float32)
        config, where = LossConfig(), torch.arange(4)

        def term(targets: np.ndarray, answers: torch.Tensor, positions: torch.Tensor) -> float:
            soft = SoftTargets(targets, 2.0)
            return teacher_terms("token_classification", config, answers, answers, soft, positions)["logits"].item()

        read = [0, 2, 3]
        assert term(teacher, self.ANSWERS, where) == pytest.approx(term(teacher[read], self.ANSWERS[read], where[:3]))
        assert term(0 * teacher, self.ANSWERS, where) == 0


class TestMetrics:
    LABELS = [[1, 2, 0], [0, 3], [0, 0, 0, 5]]
    RIGHT = np.eye(7)[[1, 2, 0, 0, 3, 0, 0, 0, 5]] * 4

    def compared(self, answers: np.ndarray) -> dict[str, Metric]:
        return {metric.name: metric for metric in TASK.compare(answers, self.RIGHT, self.LABELS, NAMES)}

    def test_the_right_tags(self) -> None:
        found = self.compared(self.RIGHT)
        assert {name: metric.value for name, metric in found.items()} == {
            "f1": 1, "f1_drop": 0, "token_accuracy": 1, "agreement": 1,
        }  # fmt: skip
        assert {name: metric.n for name, metric in found.items()} == {
            "f1": 3, "f1_drop": 3, "token_accuracy": 9, "agreement": 9,
        }  # fmt: skip

    def test_an_entity_that_is_cut_short_is_wrong(self) -> None:
        answers = self.RIGHT.copy()
        answers[1] = np.eye(7)[0]
        found = self.compared(answers)
        assert found["f1"].value == pytest.approx(2 / 3)
        assert found["f1_drop"].value == pytest.approx(1 / 3)
        assert found["token_accuracy"].value == pytest.approx(8 / 9)
        assert found["f1"].ci95 is not None and found["f1"].ci95[0] < 2 / 3

    def test_words_that_were_not_read_are_outside(self) -> None:
        answers = self.RIGHT.copy()
        answers[8] = 0
        assert tag_numbers(answers, NAMES).tolist()[8] == 0
        assert tag_numbers(answers, ["B-A", *NAMES[1:], "O"]).tolist()[8] == 7
        assert self.compared(answers)["f1"].value == pytest.approx(2 * 2 / (2 + 3))

    def test_nothing_to_find(self) -> None:
        nothing = np.eye(7)[[0, 0]]
        found = {m.name: m for m in TASK.compare(nothing, nothing, [[0], [0]], NAMES)}
        assert found["f1"].value is None and found["f1"].ci95 is None
        assert found["token_accuracy"].value == 1
        assert TASK.score(nothing, [[0], [0]], NAMES) == 0

    def test_floor(self) -> None:
        labels = [[0, 1, 0], [3, 0]] * 20
        right = np.eye(7)[[tag for row in labels for tag in row]]
        assert TASK.floor(right, labels, NAMES) is None
        assert "does not beat the tag O everywhere (0.600)" in (TASK.floor(0 * right, labels, NAMES) or "")

    def test_dev_score_has_no_interval_of_rows(self) -> None:
        assert TASK.dev_metric(0.5, 30) == Metric("dev_f1", 0.5, n=30)

    def test_it_is_said_as_entities(self) -> None:
        first, second = TASK.say(["big bank shares fall", "rain"], np.eye(7)[[0, 1, 2, 0, 0]], NAMES)
        assert first.record["tags"] == ["O", "B-MONEY", "I-MONEY", "O"]
        assert first.record["entities"] == [{"type": "MONEY", "text": "bank shares", "first_word": 1, "words": 2}]
        assert first.line == "MONEY: bank shares  |  big bank shares fall"
        assert second.line == "no entity  |  rain"


def conll(rows: list[tuple[list[str], list[str]]]) -> str:
    """As CoNLL-2003 is written, with columns in between."""
    texts = ["\n".join(f"{word} NN I-NP {tag}" for word, tag in zip(*row, strict=True)) for row in rows]
    return "-DOCSTART- -X- O O\n\n" + "\n\n".join(texts) + "\n"


class TestData:
    ROWS = tiny_tagged(40)

    def write(self, path: Path, kind: str) -> Dataset:
        records = [{"tokens": words, "tags": tags} for words, tags in self.ROWS]
        data: dict[str, Any] = {"text": "tokens", "label": "tags"}
        if kind == "conll":
            (path / "a.conll").write_text(conll(self.ROWS))
        elif kind == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(records), path / "a.parquet")
        else:
            (path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return load_dataset(DataConfig(source=str(path / f"a.{kind}"), **data), "token_classification")

    @pytest.mark.parametrize("kind", ["jsonl", "conll", "parquet"])
    def test_every_kind_of_file(self, tmp_path: Path, kind: str) -> None:
        data = self.write(tmp_path, kind)
        assert data.label_names == NAMES
        known = {" ".join(words): tags for words, tags in self.ROWS}
        for split in (data.train, data.dev, data.test):
            for text, labels in zip(split.texts, split.labels, strict=True):
                assert [NAMES[k] for k in labels] == known[text]
        assert len(data.train) + len(data.dev) + len(data.test) == 40

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"tokens": ["a", "b"], "tags": ["O"]}, "row 2 of .* has 2 words and 1 tags"),
            ({"tokens": ["a"], "tags": ["PER"]}, "row 2 of .* has the tag 'PER', allowed: O, B-TYPE, I-TYPE"),
            ({"tokens": ["a"], "tags": [3]}, "has the tag '3'"),
            ({"tokens": ["a b"], "tags": ["O"]}, "row 2 of .* has 'a b' in its list, allowed: words without white"),
            ({"tokens": [""], "tags": ["O"]}, "row 2 of .* has '' in its list"),
        ],
    )
    def test_a_wrong_row_is_named(self, tmp_path: Path, row: dict[str, Any], message: str) -> None:
        path = tmp_path / "a.jsonl"
        good = {"tokens": ["a", "bank"], "tags": ["O", "B-MONEY"]}
        path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
        with pytest.raises(DataError, match=message):
            load_dataset(DataConfig(source=str(path), text="tokens", label="tags"), "token_classification")

    def test_a_word_without_a_tag(self, tmp_path: Path) -> None:
        path = tmp_path / "a.conll"
        path.write_text("bank B-MONEY\nshares\n")
        with pytest.raises(DataError, match="line 2: got 'shares' alone, allowed: a word and its tag"):
            load_dataset(DataConfig(source=str(path), text="tokens", label="tags"), "token_classification")

    def test_nothing_to_find(self, tmp_path: Path) -> None:
        path = tmp_path / "a.conll"
        path.write_text("\n\n".join(f"w{k} O" for k in range(9)))
        with pytest.raises(DataError, match="every tag is O"):
            load_dataset(DataConfig(source=str(path), text="tokens", label="tags"), "token_classification")

    def test_a_teacher_that_knows_more_tags(self, tmp_path: Path) -> None:
        data = self.write(tmp_path, "jsonl")
        names = ["B-X", *reversed(NAMES)]
        fitted = retagged(data, names)
        assert fitted.label_names == names
        before = [[NAMES[k] for k in row] for row in data.test.labels]
        assert [[names[k] for k in row] for row in fitted.test.labels] == before

    def test_unlabelled_texts_may_be_lists_or_texts(self, tmp_path: Path) -> None:
        more = tmp_path / "more.jsonl"
        more.write_text('{"tokens": ["new", "text"]}\n{"tokens": "another  one here"}\n')
        self.write(tmp_path, "jsonl")
        config = DataConfig(source=str(tmp_path / "a.jsonl"), text="tokens", label="tags", unlabelled=str(more))
        data = load_dataset(config, "token_classification")
        assert data.unlabelled == Split(["new text", "another one here"], None, [[NO_LABEL] * 2, [NO_LABEL] * 3])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_head_for_every_token_reloads(family: str, tmp_path: Path) -> None:
    source = tiny_classifier(family, tmp_path / "source")
    model = load_classifier(source, NAMES, HEAD)
    ids = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        wanted = model(**ids).logits
    assert wanted.shape == (1, 4, 7)
    save_classifier(model, tmp_path / "saved", source)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert has_head(config, HEAD) and not has_head(json.loads((source / "config.json").read_text()), HEAD)
    with torch.no_grad():
        assert torch.equal(load_classifier(tmp_path / "saved", head=HEAD)(**ids).logits, wanted)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_narrow_one_reloads(family: str, tmp_path: Path) -> None:
    model = load_classifier(tiny_classifier(family, tmp_path / "source"), NAMES, HEAD)
    ids = {"input_ids": torch.tensor([[2, 7, 8, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        narrow_heads(model, layers_of(model)[0], [0, 2])
        narrow_hidden(model, torch.arange(0, 32, 2))
        wanted = model(**ids).logits
        save_classifier(model, tmp_path / "saved", tmp_path / "source")
        torch.testing.assert_close(load_classifier(tmp_path / "saved", head=HEAD)(**ids).logits, wanted)


def test_evaluation_rows_round_trip(tmp_path: Path) -> None:
    texts, answers = ["a b c", "d e", "f g h i"], TestMetrics.RIGHT
    before = Evaluation(texts, None, TestMetrics.LABELS, answers, "token_classification", tuple(NAMES))
    write_evaluation(tmp_path, before)
    after = read_evaluation(tmp_path, "token_classification", NAMES)
    assert after.labels == before.labels
    assert np.array_equal(after.teacher_logits, answers)
    assert after.compare(answers) == before.compare(answers)


class TestRecipe:
    TREE: dict[str, Any] = {
        "name": "n", "task": "token_classification", "teacher": {"source": "t"}, "data": {"source": "d.conll"},
        "stages": [{"stage": "distill"}, {"stage": "export"}],
    }  # fmt: skip

    def test_columns_unless_told(self) -> None:
        recipe = Recipe.model_validate(self.TREE)
        assert (recipe.data.text, recipe.data.label) == ("tokens", "tags")
        told = Recipe.model_validate({**self.TREE, "data": {"source": "d.jsonl", "text": "words"}})
        assert (told.data.text, told.data.label) == ("words", "tags")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"data": {"source": "d", "text_pair": "b"}}, "data.text_pair: token_classification reads one text"),
            ({"pooling": {}}, "pooling: for sentence_embeddings only"),
            ({"budget": {"accuracy_drop": 0.1}}, "budget.accuracy_drop: not measured for token_classification"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Recipe.model_validate({**self.TREE, **changes})
