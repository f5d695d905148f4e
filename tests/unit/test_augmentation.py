"""Augmented texts: what changes, what stays, and that neither other rows nor a second run make them different."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import LABELS, WORDS, tiny_classifier, tiny_config, tiny_rows, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from edgetf.algorithms.augmentation import (
    delete_words,
    likely_words,
    neighbors,
    one_piece_words,
    replace_words,
    splice_texts,
    split_words,
    whole_words,
)
from edgetf.config.data import AugmentConfig
from edgetf.core.errors import ArtifactError
from edgetf.core.places import cache_folder
from edgetf.training import augment
from edgetf.training.augment import augmented_texts, cached_augmented

torch.set_num_threads(1)

TEXTS = [text for text, _ in tiny_rows(40)]
LONG = " ".join(WORDS * 40)  # 2,600 words, for shares


def silent(done: int, total: int, note: str) -> None:
    """A report to nobody."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertForMaskedLM

    folder = tmp_path_factory.mktemp("masked")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForMaskedLM(tiny_config("bert", LABELS)).save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def config(*methods: str, **fields: Any) -> AugmentConfig:
    return AugmentConfig(methods=methods or ("words", "delete"), **fields)


def changes(old: str, new: str) -> list[tuple[str, str]]:
    """The words that differ; all else must be the same."""
    before, after = split_words(old), split_words(new)
    assert before[::2] == after[::2]
    return [(a, b) for a, b in zip(before[1::2], after[1::2], strict=True) if a != b]


class TestWords:
    @pytest.mark.parametrize("among", [None, list(range(100, 700))])
    def test_neighbors_equal_brute_force(self, among: list[int] | None) -> None:
        table = torch.randn(700, 8, generator=torch.Generator().manual_seed(0))
        ids = list(range(0, 700, 2))  # more than a block
        pool = ids if among is None else among
        found = neighbors(table, ids, 5, among)
        for own in ids:
            others = [k for k in pool if k != own]
            order = torch.cosine_similarity(table[own].double(), table[others].double()).argsort(descending=True)
            assert found[own] == [others[k] for k in order[:5]]

    @given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab1' _-.’\n"), max_size=40))
    def test_split_words_loses_nothing(self, text: str) -> None:
        parts = split_words(text)
        assert "".join(parts) == text
        assert all(part and all(c.isalnum() or c in "'’" for c in part) for part in parts[1::2])
        assert not any(c.isalnum() or c in "'’" for part in parts[::2] for c in part)

    def test_replaced_words_keep_the_rest_and_their_capitals(self) -> None:
        table = {"rain": ["snow"], "Rain": ["snow"], "RAIN": ["snow"], "wind": ["wind", "WIND"]}
        text = "  Rain, RAIN\n(rain) and_wind… 5!"
        assert replace_words(text, random.Random(0), 1, lambda word: table.get(word, [])) == (
            "  Snow, SNOW\n(snow) and_wind… 5!"
        )

    def test_replaced_are_the_share_and_one_at_least(self) -> None:
        new = replace_words(LONG, random.Random(0), 0.3, lambda word: ["other"])
        assert len(changes(LONG, new)) / len(LONG.split()) == pytest.approx(0.3, abs=0.03)
        for seed in range(20):
            new = replace_words("a rain b", random.Random(seed), 1e-9, lambda word: ["snow"] if word == "rain" else [])
            assert new == "a snow b"

    def test_deleted_are_the_share_and_never_all(self) -> None:
        left = delete_words(LONG, random.Random(0), 0.3).split(" ")
        assert len(left) / len(LONG.split()) == pytest.approx(0.7, abs=0.03)
        assert {delete_words("rain, wind", random.Random(seed), 1) for seed in range(20)} == {"rain,", ", wind"}
        assert delete_words("…", random.Random(0), 1) == "…"

    @given(st.integers(0, 1000))
    def test_deletion_tidies_white_space_only_where_a_word_went(self, seed: int) -> None:
        new = delete_words("one two, three.  Four\tfive!", random.Random(seed), 0.5)
        assert new == new.strip()
        assert " ," not in new and " ." not in new and " !" not in new
        assert ("  " in new) <= (new.count(".  ") == 1)
        assert [word for word in "one two three Four five".split() if word in split_words(new)] == split_words(new)[
            1::2
        ]

    @given(st.text("ab \n", max_size=12), st.text("cd \n", max_size=12), st.integers(0, 99))
    def test_spliced_is_a_start_of_one_and_an_end_of_another(self, text: str, other: str, seed: int) -> None:
        first, second = text.split(), other.split()
        new = splice_texts(text, other, random.Random(seed))
        if not first or not second:
            assert new == text
            return
        starts = {" ".join(first[:k]) for k in range(1, len(first) + 1)}
        assert new in {f"{start} {' '.join(second[k:])}" for start in starts for k in range(len(second))}

    def test_a_splice_may_be_cut_at_every_word(self) -> None:
        made = {splice_texts("a b", "c d", random.Random(seed)) for seed in range(50)}
        assert made == {"a c d", "a d", "a b c d", "a b d"}

    def test_one_piece_words_take_spaces_before_and_no_letter_of_two_bytes(self) -> None:
        assert one_piece_words("big é day", [(0, 3), (3, 4), (4, 5), (4, 5), (5, 9)]) == [(0, 3, 0), (6, 9, 4)]

    def test_likely_words_are_the_best_allowed_ones_by_their_renormalized_probability(self) -> None:
        logits, words = torch.tensor([[3.0, 9.0, 1.0, 2.0, 0.0]]), torch.tensor([0, 2, 3, 4])
        ((ids, shares),) = likely_words(logits, torch.tensor([3]), words, 2)
        odds = torch.tensor([3.0, 1.0]).exp()
        assert ids == [0, 2]
        assert shares == pytest.approx((odds / odds.sum()).tolist())

    def test_an_unknown_kind_of_tokenizer_is_refused(self) -> None:
        with pytest.raises(ArtifactError, match="Unigram"):
            whole_words("Unigram", {}, lambda ids: [])


class TestAugmentedTexts:
    @pytest.mark.parametrize("method", ["words", "delete", "mask"])
    def test_depends_on_the_seed_but_not_on_other_rows(self, method: str, teacher: Path, masked: Path) -> None:
        asked = config(method, copies=3, masked_lm=str(masked) if method == "mask" else None)
        all_rows, _ = augmented_texts(asked, TEXTS, None, teacher, silent)
        few_rows, _ = augmented_texts(asked, TEXTS[:10], None, teacher, silent)
        other, _ = augmented_texts(asked.model_copy(update={"seed": 1}), TEXTS, None, teacher, silent)
        assert all_rows == augmented_texts(asked, TEXTS, None, teacher, silent)[0]
        assert all_rows[: len(few_rows)] == few_rows
        assert len(few_rows) > 10
        assert set(other) != set(all_rows)

    def test_spliced_texts_end_as_other_rows_do(self, teacher: Path) -> None:
        asked = config("splice", copies=2)
        new, _ = augmented_texts(asked, TEXTS, None, teacher, silent)
        assert new == augmented_texts(asked, TEXTS, None, teacher, silent)[0]
        assert len(new) > len(TEXTS)
        for text in new:
            words = text.split()
            cuts = range(1, len(words))
            starts = {cut for cut in cuts if any(old.split()[:cut] == words[:cut] for old in TEXTS)}
            ends = {cut for cut in cuts if any(old.split()[-len(words) + cut :] == words[cut:] for old in TEXTS)}
            assert starts & ends

    def test_new_texts_are_like_no_original_and_no_other(self, teacher: Path) -> None:
        texts = ["Rain  Wind", "rain wind", "rain", "wind", "snow", "", " "]
        new, _ = augmented_texts(config("delete", copies=8, share=0.5), texts, None, teacher, silent)
        assert new == []
        new, _ = augmented_texts(config(copies=30, share=0.5), texts, None, teacher, silent)
        known = [" ".join(text.casefold().split()) for text in [*texts, *new]]
        assert len(set(known[len(texts) :]) - set(known[: len(texts)])) == len(new) > 0

    def test_words_become_neighbors_in_the_teachers_embedding(self, teacher: Path) -> None:
        vocab = Tokenizer.from_file(str(teacher / "tokenizer.json")).get_vocab()
        table = load_file(teacher / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
        pool = {vocab[word]: word for word in WORDS if len(word) > 2}
        near = neighbors(table, list(pool), 2)
        new, _ = augmented_texts(config("words", neighbors=2, copies=1), TEXTS, None, teacher, silent)
        assert len(new) == len(TEXTS)
        for old, text in zip(TEXTS, new, strict=True):
            assert changes(old, text)
            assert all(after in [pool[k] for k in near[vocab[before]]] for before, after in changes(old, text))

    def test_words_of_a_byte_level_tokenizer(self, tmp_path: Path) -> None:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(["café thé rain"] * 9, trainers.BpeTrainer(min_frequency=2, show_progress=False))
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        table = torch.randn(tokenizer.get_vocab_size(), 4, generator=torch.Generator().manual_seed(0))
        save_file({"roberta.embeddings.word_embeddings.weight": table}, tmp_path / "model.safetensors")
        new, _ = augmented_texts(config("words", copies=9, neighbors=99), ["Café, x"], None, tmp_path, silent)
        assert {"Thé, x", "Rain, x"} <= set(new)

    def test_a_copy_changes_one_text_of_a_pair(self, teacher: Path) -> None:
        new, pairs = augmented_texts(config("words", copies=2), TEXTS[:20], TEXTS[20:], teacher, silent)
        assert pairs is not None
        kept = [(text in TEXTS[:20], pair in TEXTS[20:]) for text, pair in zip(new, pairs, strict=True)]
        assert {(True, False), (False, True)} == set(kept)
        assert len(new) == 40
        for k, (text, pair) in enumerate(zip(new, pairs, strict=True)):
            assert (changes(TEXTS[k // 2], text) == []) != (changes(TEXTS[20 + k // 2], pair) == [])

    def test_copies_take_turns_with_the_methods(self, teacher: Path) -> None:
        seen: list[tuple[int, int]] = []
        new, _ = augmented_texts(config(copies=3), [LONG] * 2, None, teacher, lambda *words: seen.append(words[:2]))
        shorter = [len(text.split()) < len(LONG.split()) for text in new]
        assert shorter == [False, True, False, True, False, True]
        assert seen == [(3, 6), (6, 6)]


class TestMaskedLanguageModel:
    def test_changes_only_words_of_one_piece(self, teacher: Path, masked: Path) -> None:
        old = "  Rain, zebra\n(WIND) don't 日 snow_frost… 7!"  # zebra is five pieces, 日 an unknown one
        asked = config("mask", share=1, masked_lm=str(masked))
        for text in augmented_texts(asked, [old], None, teacher, silent)[0]:
            assert [before for before, _ in changes(old, text)] == ["Rain", "WIND", "snow", "frost"]
            words = [after for _, after in changes(old, text)]
            assert words[0].istitle()
            assert words[1].isupper()
            assert all(word.islower() for word in words[2:])

    def test_draws_what_the_model_finds_likely(
        self, teacher: Path, masked: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from transformers import AutoModelForMaskedLM

        model = AutoModelForMaskedLM.from_pretrained(masked).eval()
        tokenizer = Tokenizer.from_file(str(masked / "tokenizer.json"))
        monkeypatch.setattr(augment, "_TOKENS", 40)  # a few texts a pass
        asked = config("mask", share=1e-9, neighbors=1, copies=1, masked_lm=str(masked))
        for text in augmented_texts(asked, TEXTS, None, teacher, silent)[0]:
            old = next(old for old in TEXTS if len(old.split()) == len(text.split()) and len(changes(old, text)) == 1)
            ((before, after),) = changes(old, text)
            at = 1 + [a == b for a, b in zip(old.split(), text.split(), strict=True)].index(False)
            ids = torch.tensor([tokenizer.encode(old).ids])
            ids[0, at] = tokenizer.token_to_id("[MASK]")
            with torch.inference_mode():
                logits = model(ids).logits[0, at]
            pieces = [p for p in tokenizer.get_vocab() if p.isalnum() and p != before]
            assert after == max(pieces, key=lambda piece: float(logits[tokenizer.token_to_id(piece)]))

    def test_changes_the_share_and_what_is_too_long_stays(self, teacher: Path, masked: Path) -> None:
        asked = config("mask", share=0.3, copies=20, masked_lm=str(masked))
        new, _ = augmented_texts(asked, [LONG], None, teacher, silent)
        counts = [len(changes(LONG, text)) for text in new]
        assert sum(counts) / len(counts) == pytest.approx(0.3 * 60, abs=3)  # 62 positions, two of them special
        assert all(text.split()[60:] == LONG.split()[60:] for text in new)

    def test_what_is_no_masked_language_model_is_refused(self, teacher: Path, masked: Path, tmp_path: Path) -> None:
        maskless, damaged = (Path(shutil.copytree(masked, tmp_path / name)) for name in ("maskless", "damaged"))
        (maskless / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        (damaged / "model.safetensors").write_bytes(b"no tensors")
        for source, reason in (
            (teacher, "it has no cls.predictions"),
            (maskless, "it has no mask token"),
            (damaged, "cannot be loaded"),
            (tmp_path, "^data.augment.masked_lm: .* has no config.json"),
        ):
            with pytest.raises(ArtifactError, match=reason):
                augmented_texts(config("mask", masked_lm=str(source)), TEXTS, None, teacher, silent)


class TestCache:
    @pytest.mark.parametrize("pairs", [None, TEXTS[20:]])
    def test_a_second_call_reads_what_the_first_wrote(self, pairs: list[str] | None, tmp_path: Path) -> None:
        folder = tiny_classifier("bert", tmp_path / "teacher")
        first = cached_augmented(config(), TEXTS[:20], pairs, folder, "digest", silent)
        assert first == augmented_texts(config(), TEXTS[:20], pairs, folder, silent)
        (folder / "model.safetensors").unlink()
        assert cached_augmented(config(), TEXTS[:20], pairs, folder, "digest", silent) == first
        for asked, digest in ((config(), "other"), (config(seed=1), "digest")):
            with pytest.raises(FileNotFoundError):
                cached_augmented(asked, TEXTS[:20], pairs, folder, digest, silent)

    @pytest.mark.parametrize("damage", ["", '["half a li', "7\n", '["a", "", ""]\n'])
    def test_damaged_lines_are_made_anew(self, damage: str, teacher: Path) -> None:
        first = cached_augmented(config(), TEXTS, None, teacher, "digest", silent)
        (path,) = (cache_folder() / "augmented").iterdir()
        whole = path.read_text()
        path.write_text(damage and whole + damage)
        assert cached_augmented(config(), TEXTS, None, teacher, "digest", silent) == first
        assert path.read_text() == whole
