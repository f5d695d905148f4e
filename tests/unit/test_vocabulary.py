"""A smaller tokenizer reads what it can read as before, and never loses a text that it could read."""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import BPE_SPECIALS, CORPUS, NEVER_COUNTED, byte_level_bpe, minilm, trained_wordpiece
from tiny import BERT_SPECIALS, WORDS, tiny_tokenizer

from edgetf.core.errors import ArtifactError, ConfigError
from edgetf.models.vocabulary import choose_pieces, count_pieces, prune_tokenizer, renumbered_ids

tokenizers = pytest.importorskip("tokenizers", reason="needs edgetf[ort]")

KINDS = ("tiny", "wordpiece", "minilm", "bpe-roberta", "bpe-template")
old_and_new = st.lists(st.sampled_from(CORPUS + NEVER_COUNTED), min_size=1, max_size=8)
often = settings(max_examples=40, deadline=None)


def load(folder: Path) -> Any:
    """The tokenizer of a folder, which neither cuts nor pads."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def write(path: Path, record: Any) -> None:
    path.write_text(json.dumps(record), encoding="utf-8")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def change(folder: Path, edit: Callable[[Any], Any]) -> None:
    """Edit the tokenizer.json of a folder."""
    record = read(folder / "tokenizer.json")
    edit(record)
    write(folder / "tokenizer.json", record)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tokenizer by its kind, each made once."""
    made: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            match kind:
                case "tiny":
                    tiny_tokenizer(made[kind])
                case "wordpiece":
                    trained_wordpiece(made[kind])
                case "minilm":
                    made[kind] = minilm()
                case _:
                    byte_level_bpe(made[kind], kind.removeprefix("bpe-"))
        return made[kind]

    return folder_of


@pytest.fixture(params=KINDS)
def folder(folders: Callable[[str], Path], request: pytest.FixtureRequest) -> Path:
    """Every kind of tokenizer in turn."""
    return folders(request.param)


@pytest.fixture
def bpe(folders: Callable[[str], Path]) -> Path:
    return folders("bpe-roberta")


@pytest.fixture
def wordpiece(folders: Callable[[str], Path]) -> Path:
    return folders("wordpiece")


def least(folder: Path, counts: Any) -> int:
    """The smallest size that is allowed, as the error tells it."""
    with pytest.raises(ConfigError) as error:
        choose_pieces(folder, counts, 0)
    return int(re.search(r"allowed: (\d+) or more", str(error.value)).group(1))  # type: ignore[union-attr]


def pruned(folder: Path, out: Path, texts: list[str] = CORPUS, size: int | None = None) -> list[int]:
    kept = choose_pieces(folder, count_pieces(folder, texts), size)
    out.mkdir(exist_ok=True)
    prune_tokenizer(folder, out, kept)
    return kept


def holds_for(folder: Path, counted: list[str], share: float, texts: list[str]) -> None:
    """The laws: `share` is 0 for the smallest size, 1 for all pieces that there are."""
    before = load(folder)
    counts = count_pieces(folder, counted)
    floor = least(folder, counts)
    size = floor + round(share * (before.get_vocab_size() - floor))
    kept = choose_pieces(folder, counts, size)
    assert size - len(kept) in (0, 1)  # a rare letter comes in two forms or not at all
    assert kept == sorted(set(kept))
    with tempfile.TemporaryDirectory() as name:
        prune_tokenizer(folder, Path(name), kept)
        after = load(Path(name))
    reads_the_same(before, after, kept, counted, texts)


def reads_the_same(before: Any, after: Any, kept: list[int], counted: list[str], texts: list[str]) -> None:
    new_of = {old: new for new, old in enumerate(kept)}
    assert after.get_vocab() == {before.id_to_token(old): new for old, new in new_of.items()}
    words = [word for text in [*texts, *counted] for word in text.split()]
    for text in [*texts, *counted, *words]:
        old, new = before.encode(text), after.encode(text)
        if new_of.keys() >= set(old.ids):
            assert new.tokens == old.tokens
            assert new.ids == [new_of[number] for number in old.ids]
        if "[UNK]" not in old.tokens and (text in counted or text.isascii()):
            assert "[UNK]" not in new.tokens
            assert after.decode(new.ids) == before.decode(old.ids)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "minilm"])
@given(counted=old_and_new, texts=old_and_new, share=st.floats(0, 1))
@often
def test_kept_words_are_read_as_before_and_none_becomes_unknown(
    folders: Callable[[str], Path], kind: str, counted: list[str], texts: list[str], share: float
) -> None:
    holds_for(folders(kind), counted, share, texts)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 1.0])
def test_a_real_tokenizer_reads_kept_words_as_before(folders: Callable[[str], Path], share: float) -> None:
    rng = random.Random(7)
    strange = ["".join(rng.choices("abcdefghij-.'~0123456789", k=rng.randint(1, 20))) for _ in range(300)]
    holds_for(folders("minilm"), CORPUS, share, NEVER_COUNTED + strange)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@often
def test_byte_level_bpe_gives_back_any_text(folders: Callable[[str], Path], small_bpe: Any, text: str) -> None:
    before = load(folders("bpe-roberta"))
    again = small_bpe.decode(small_bpe.encode(text).ids)
    assert again == before.decode(before.encode(text).ids)
    assert again == text or any(special in text for special in BPE_SPECIALS)


@pytest.fixture(scope="module")
def small_bpe(folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("small")
    pruned(folders("bpe-roberta"), out, CORPUS[:3], 300)
    return load(out)


def plain_wordpiece(folder: Path, pieces: list[str]) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {piece: n for n, piece in enumerate(["[UNK]", *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@given(
    starts=st.sets(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=12),
    ends=st.sets(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=12),
    draws=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=3), min_size=1, max_size=12),
    share=st.floats(0, 1),
)
@settings(max_examples=300, deadline=None)
def test_no_counted_text_is_lost_even_where_letters_are_missing(
    starts: set[str], ends: set[str], draws: list[list[int]], share: float
) -> None:
    first, later = sorted(starts), sorted(ends)
    words = [first[k % len(first)] + "".join(later[n % len(later)] for n in more) for k, *more in draws]
    with tempfile.TemporaryDirectory() as name:
        folder = plain_wordpiece(Path(name), [*first, *(f"##{piece}" for piece in later)])
        before = load(folder)
        holds_for(folder, [word for word in words if "[UNK]" not in before.encode(word).tokens], share, [])


def test_a_word_with_a_letter_that_is_no_piece_is_not_lost_to_another_match(tmp_path: Path) -> None:
    folder = plain_wordpiece(tmp_path, ["ab", "##cd", "a", "##b", "##c", "##bc", "d"])
    words = ["abcd", *["dbc"] * 9]
    assert load(folder).encode("abcd").tokens == ["ab", "##cd"]
    counts = count_pieces(folder, words)
    assert least(folder, counts) == 8  # a, then ##bc, would leave a d that is no piece inside a word
    holds_for(folder, words, 0, [])


def test_a_piece_whose_first_letter_is_none_inside_a_word_stays(tmp_path: Path) -> None:
    folder = plain_wordpiece(tmp_path, ["a", "b", "##ab", "##b"])
    holds_for(folder, ["bab"], 0, [])


def test_a_word_that_its_letters_do_not_spell_stays_alone(tmp_path: Path) -> None:
    folder = plain_wordpiece(tmp_path, ["👍🏽", "ab", "a", "##b"])
    counts = count_pieces(folder, ["👍🏽 ab ab"])
    assert choose_pieces(folder, counts, least(folder, counts)) == [0, 1, 3, 4]


@given(
    draws=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=14),
    words=st.lists(st.text("ab", min_size=1, max_size=12), min_size=1, max_size=8),
    marks=st.sampled_from([("", ""), ("", "</w>"), ("##", ""), ("##", "</w>")]),
    share=st.floats(0, 1),
)
@settings(max_examples=300, deadline=None)
def test_bpe_reads_kept_words_as_before_whatever_its_merges(
    draws: list[tuple[int, int]], words: list[str], marks: tuple[str, str], share: float
) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    prefix, suffix = marks
    firsts = {prefix * inside + letter + suffix * last for letter in "ab" for inside in (0, 1) for last in (0, 1)}
    vocab, merges = sorted(firsts), []
    for one, other in draws:
        starts = [piece for piece in vocab if not suffix or not piece.endswith(suffix)]
        ends = [piece for piece in vocab if piece.startswith(prefix)]
        pair = starts[one % len(starts)], ends[other % len(ends)]
        made = pair[0] + pair[1].removeprefix(prefix)
        merges += [pair] * (pair not in merges)
        vocab += [made] * (made not in vocab)  # two pairs may make the same piece
    ids = {piece: n for n, piece in enumerate(vocab)}
    options = {"continuing_subword_prefix": prefix, "end_of_word_suffix": suffix}
    tokenizer = Tokenizer(models.BPE(ids, merges, **{name: mark for name, mark in options.items() if mark}))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("##", ""), decoders.Replace("</w>", ""), decoders.Fuse()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save(f"{name}/tokenizer.json")
        holds_for(Path(name), words, share, words)


def plain_bpe(folder: Path, letters: str, merges: list[tuple[str, str]], prefix: str = "") -> Path:
    from tokenizers import Tokenizer, models

    made = [first + second.removeprefix(prefix) for first, second in merges]
    pieces = dict.fromkeys([*letters, *(prefix + letter for letter in letters), *made])
    marks = {"continuing_subword_prefix": prefix} if prefix else {}
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges, **marks))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def names_of(folder: Path, kept: list[int]) -> set[str]:
    before = load(folder)
    return {before.id_to_token(number) for number in kept}


def test_a_merge_goes_with_its_parts_even_where_what_it_makes_stays(tmp_path: Path) -> None:
    merges = [("a", "b"), ("b", "b"), ("ab", "b"), ("a", "bb")]
    source = plain_bpe(tmp_path, "ab", merges)
    out = tmp_path / "out"
    assert names_of(source, pruned(source, out, ["abb"])) == {"a", "b", "ab", "abb"}
    assert read(out / "tokenizer.json")["model"]["merges"] == [["a", "b"], ["ab", "b"]]
    assert load(out).encode("abb").tokens == ["abb"]


def test_a_derivation_inside_a_word_goes_through_pieces_inside_a_word(tmp_path: Path) -> None:
    merges = [("##a", "##b"), ("##ab", "##c"), ("a", "##b"), ("ab", "##c")]
    source = plain_bpe(tmp_path, "abc", merges, "##")
    out = tmp_path / "out"
    letters = {mark + letter for letter in "abc" for mark in ("", "##")}
    assert names_of(source, pruned(source, out, ["cabc"])) == {*letters, "##ab", "##abc"}
    assert load(out).encode("cabc").tokens == ["c", "##abc"]


@pytest.mark.parametrize("size", [None, 262, 300, 500])
def test_every_kept_piece_of_bpe_is_still_reached(bpe: Path, tmp_path: Path, size: int | None) -> None:
    pruned(bpe, tmp_path, CORPUS[:40], size)
    before, after = load(bpe).model, load(tmp_path).model
    kept = [piece for piece in load(tmp_path).get_vocab() if piece not in BPE_SPECIALS]
    reached = [piece for piece in kept if [token.value for token in before.tokenize(piece)] == [piece]]
    assert len(reached) > 250
    assert all([token.value for token in after.tokenize(piece)] == [piece] for piece in reached)


def test_bpe_keeps_what_its_pieces_are_made_of(bpe: Path) -> None:
    model = read(bpe / "tokenizer.json")["model"]
    vocab, parts = model["vocab"], {first + second: (first, second) for first, second in model["merges"]}
    deep = next(piece for piece, (first, second) in parts.items() if first in parts and second in parts)
    counts = np.zeros(len(vocab) + len(BPE_SPECIALS), dtype=np.int64)
    counts[vocab[deep]] = 1
    kept = set(choose_pieces(bpe, counts, None))
    assert {vocab[piece] for piece in (deep, *parts[deep])} <= kept
    more = len(kept) - least(bpe, np.zeros_like(counts))
    assert more >= 3
    # one row less does not hold it, so that others come in its place
    assert vocab[deep] not in choose_pieces(bpe, counts, len(kept) - 1)


def test_pieces_are_counted_in_whole_texts(folders: Callable[[str], Path]) -> None:
    folder = folders("minilm")  # its own file cuts at 128 and pads
    ids = load(folder).get_vocab()
    counts = count_pieces(folder, (text for text in ["goal " * 300, "goal"]))
    assert counts.shape == (len(ids),)
    assert counts.dtype == np.int64
    assert (counts[ids["goal"]], counts[ids["[CLS]"]], counts[ids["[PAD]"]]) == (301, 2, 0)
    assert counts.sum() == 301 + 2 * 2


def test_both_texts_of_a_pair_are_counted(folders: Callable[[str], Path]) -> None:
    folder = folders("tiny")
    ids = load(folder).get_vocab()
    counts = count_pieces(folder, ["goal", "rain"], ["goal goal", "snow"])
    assert [counts[ids[word]] for word in ("goal", "rain", "snow", "wind")] == [3, 1, 1, 0]
    with pytest.raises(ValueError, match="shorter"):
        count_pieces(folder, ["goal", "rain"], ["goal"])


def test_more_texts_than_are_read_at_once_are_all_counted(folders: Callable[[str], Path]) -> None:
    folder = folders("tiny")
    counts = count_pieces(folder, ["goal"] * 2500)
    assert counts[load(folder).token_to_id("goal")] == 2500
    assert count_pieces(folder, []).sum() == 0


def test_without_a_size_all_that_occurs_stays_and_no_other_word(folders: Callable[[str], Path]) -> None:
    folder = folders("tiny")
    kept = choose_pieces(folder, count_pieces(folder, ["goal in the rain", "goal"]), None)
    names = names_of(folder, kept)
    letters = {mark + chr(code) for code in range(ord("a"), ord("z") + 1) for mark in ("", "##")}
    assert names == {*BERT_SPECIALS, *letters, "goal", "in", "the", "rain"}


def test_the_most_frequent_pieces_stay_and_ties_go_to_the_lower_id(folders: Callable[[str], Path]) -> None:
    folder = folders("tiny")
    ids = load(folder).get_vocab()
    counts = count_pieces(folder, ["wind wind goal rain team"])
    floor = least(folder, counts)
    assert ids["goal"] < ids["team"] < ids["rain"]
    chosen = [set(choose_pieces(folder, counts, floor + more)) for more in range(5)]
    came = [(new - old).pop() for old, new in zip(chosen, chosen[1:], strict=False)]
    assert came == [ids[word] for word in ("wind", "goal", "team", "rain")]
    assert len(choose_pieces(folder, counts, floor + 9)) == floor + 9  # then those that do not occur
    assert len(choose_pieces(folder, counts, 10**6)) == len(ids)


def test_letters_of_counted_pieces_stay_in_both_forms(wordpiece: Path) -> None:
    ids = load(wordpiece).get_vocab()
    assert {"東", "’", "##a"} <= ids.keys()
    counts = count_pieces(wordpiece, ["東京"])
    kept = set(choose_pieces(wordpiece, counts, least(wordpiece, counts)))
    assert {ids["東"], ids["京"], ids["##a"]} <= kept
    assert ids["’"] not in kept


def test_a_piece_that_does_not_occur_brings_its_letters_or_stays_away(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    names = ["[UNK]", "é", "##é", "éé", "aé", "a", "##a"]
    Tokenizer(models.WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]")).save(
        str(tmp_path / "tokenizer.json")
    )
    counts = np.zeros(7, dtype=np.int64)
    assert least(tmp_path, counts) == 3
    assert choose_pieces(tmp_path, counts, 4) == [0, 5, 6]
    assert choose_pieces(tmp_path, counts, 5) == [0, 1, 2, 5, 6]
    assert choose_pieces(tmp_path, counts, 6) == [0, 1, 2, 3, 5, 6]


def test_special_tokens_stay_wherever_they_are_named(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, [*WORDS, "<sep>", "<extra>", "<wrap>", "<fill>", "<none>", "<frame>"])

    def rename(record: Any) -> None:
        ids = record["model"]["vocab"]
        record["added_tokens"] = []
        record["model"]["unk_token"] = "<none>"
        record["padding"] = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
                             "pad_id": ids["<fill>"], "pad_type_id": 0, "pad_token": "<fill>"}  # fmt: skip
        bert = {"type": "BertProcessing", "sep": ["<wrap>", ids["<wrap>"]], "cls": ["[CLS]", 2]}
        frame = {"id": "<frame>", "ids": [ids["<frame>"]], "tokens": ["<frame>"]}
        template = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
                    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                    "special_tokens": {"<frame>": frame}}  # fmt: skip
        record["post_processor"] = {"type": "Sequence", "processors": [bert, template]}

    change(tmp_path, rename)
    settings_file = tmp_path / "tokenizer_config.json"
    specials = {"sep_token": {"content": "<sep>"}, "bos_token": None, "additional_special_tokens": ["<extra>"]}
    write(settings_file, {**read(settings_file), **specials})
    before = load(tmp_path)
    counts = np.zeros(before.get_vocab_size(), dtype=np.int64)
    kept = choose_pieces(tmp_path, counts, least(tmp_path, counts))
    names = names_of(tmp_path, kept)
    assert {*BERT_SPECIALS, "<sep>", "<extra>", "<wrap>", "<fill>", "<none>", "<frame>"} <= names
    prune_tokenizer(tmp_path, tmp_path, kept)
    record = read(tmp_path / "tokenizer.json")
    ids = record["model"]["vocab"]
    assert record["padding"]["pad_id"] == ids["<fill>"]
    bert, template = record["post_processor"]["processors"]
    assert bert["sep"] == ["<wrap>", ids["<wrap>"]]
    assert template["special_tokens"]["<frame>"]["ids"] == [ids["<frame>"]]


def test_a_size_that_is_too_small_names_the_smallest(folders: Callable[[str], Path]) -> None:
    counts = count_pieces(folders("tiny"), ["goal"])
    taking = "which special tokens and single characters take"
    with pytest.raises(ConfigError, match=f"^vocabulary.size: got 50, allowed: 57 or more, {taking}$"):
        choose_pieces(folders("tiny"), counts, 50)
    assert len(choose_pieces(folders("tiny"), counts, 57)) == 57


def test_bpe_needs_its_bytes_and_special_tokens(bpe: Path) -> None:
    counts = count_pieces(bpe, CORPUS)
    assert least(bpe, counts) == 256 + len(BPE_SPECIALS)


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"a": 0, "b": 1})).save(str(tmp_path / "tokenizer.json"))
    message = "^vocabulary: got a WordLevel tokenizer, allowed: WordPiece, BPE, Unigram; leave the stage out$"
    with pytest.raises(ConfigError, match=message):
        choose_pieces(tmp_path, np.ones(2, dtype=np.int64), None)
    with pytest.raises(ConfigError, match=message):
        prune_tokenizer(tmp_path, tmp_path, [0, 1])


def test_an_old_unigram_file_that_names_no_kind_is_understood(tmp_path: Path) -> None:
    pieces = [["<unk>", 0.0], ["a", -1.0], ["b", -2.0], ["ab", -1.5]]
    write(tmp_path / "tokenizer.json", {"model": {"unk_id": 0, "vocab": pieces}, "added_tokens": []})
    kept = choose_pieces(tmp_path, np.array([0, 0, 0, 3]), None)
    assert kept == [0, 1, 2, 3]
    assert choose_pieces(tmp_path, np.zeros(4, dtype=np.int64), 3) == [0, 1, 2]


@pytest.mark.parametrize("strange", [-1, 10**6])
def test_ids_that_are_none_or_lack_a_special_token_are_refused(folder: Path, tmp_path: Path, strange: int) -> None:
    every = sorted(load(folder).get_vocab().values())
    special = next(token for token in read(folder / "tokenizer.json")["added_tokens"])
    without = [number for number in every if number != special["id"]]
    for kept in (without, [*every, strange]):
        with pytest.raises(ConfigError, match=f"got {len(kept)} ids, allowed: ids of .*, with those of .*") as error:
            prune_tokenizer(folder, tmp_path, kept)
        assert special["content"] in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_tokenizer_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="tokenizer.json: not found"):
        choose_pieces(tmp_path, np.ones(2, dtype=np.int64), None)


def test_transformers_gives_the_same_ids(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs edgetf[compress]")
    kept = pruned(folder, tmp_path, CORPUS[:30], None)
    ours, theirs = load(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == len(kept)
    assert max(theirs.get_vocab().values()) == len(kept) - 1
    assert theirs.all_special_ids and max(theirs.all_special_ids) < len(kept)
    for text in CORPUS[:40] + NEVER_COUNTED:
        assert theirs(text)["input_ids"] == ours.encode(text).ids
        assert theirs(text, "the goal")["input_ids"] == ours.encode(text, "the goal").ids
    source = transformers.AutoTokenizer.from_pretrained(folder)
    for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"):
        old, new = (getattr(tokenizer, f"{name}_id") for tokenizer in (source, theirs))
        assert (getattr(theirs, name), kept[new]) == (getattr(source, name), old)


def test_all_files_tell_the_same_ids(folder: Path, tmp_path: Path) -> None:
    kept = pruned(folder, tmp_path, CORPUS[:30], None)
    files = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "vocab.txt", "vocab.json", "merges.txt")  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {name for name in files if (folder / name).is_file()}
    ids = load(tmp_path).get_vocab()
    assert sorted(ids.values()) == list(range(len(kept)))
    for token in read(tmp_path / "tokenizer.json")["added_tokens"]:
        assert ids[token["content"]] == token["id"]
    for number, token in read(tmp_path / "tokenizer_config.json").get("added_tokens_decoder", {}).items():
        assert ids[token["content"]] == int(number)
    if (tmp_path / "special_tokens_map.json").is_file():
        assert read(tmp_path / "special_tokens_map.json") == read(folder / "special_tokens_map.json")
    if (tmp_path / "vocab.txt").is_file():
        lines = (tmp_path / "vocab.txt").read_text(encoding="utf-8").split("\n")
        assert lines == [*sorted(ids, key=ids.__getitem__), ""]
    if (tmp_path / "vocab.json").is_file():
        from tokenizers import models

        model = models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
        ours = load(tmp_path).model
        for text in CORPUS:
            word = text.split()[0]
            assert [t.id for t in model.tokenize(word)] == [t.id for t in ours.tokenize(word)]


def test_a_token_that_only_the_settings_know_goes(bpe: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((bpe / name).read_bytes())
    settings_file = tmp_path / "tokenizer_config.json"
    record = read(settings_file)
    wanted = sorted(token["content"] for token in record["added_tokens_decoder"].values())
    record["added_tokens_decoder"]["99999"] = {"content": "<ghost>"}
    write(settings_file, record)
    pruned(tmp_path, tmp_path)
    assert sorted(token["content"] for token in read(settings_file)["added_tokens_decoder"].values()) == wanted


@pytest.mark.parametrize("form", ["strings", "pairs"])
def test_merges_keep_the_format_they_had(bpe: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes((bpe / "tokenizer.json").read_bytes())
    join = " ".join if form == "strings" else list
    change(tmp_path, lambda record: record["model"].update(merges=[join(m) for m in record["model"]["merges"]]))
    out = tmp_path / "out"
    kept = pruned(tmp_path, out, CORPUS[:20], None)
    assert kept == choose_pieces(bpe, count_pieces(bpe, CORPUS[:20]), None)
    merges = read(out / "tokenizer.json")["model"]["merges"]
    assert merges and all(isinstance(merge, str if form == "strings" else list) for merge in merges)
    reads_the_same(load(bpe), load(out), kept, CORPUS[:20], NEVER_COUNTED)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe-roberta"])
def test_an_older_file_that_names_no_kind_of_model_is_understood(
    folders: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    folder = folders(kind)
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    named = read(folder / "tokenizer.json")["model"]["type"]
    change(tmp_path, lambda record: record["model"].pop("type"))
    out = tmp_path / "out"
    kept = pruned(tmp_path, out, CORPUS[:20], None)
    assert read(out / "tokenizer.json")["model"]["type"] == named
    reads_the_same(load(folder), load(out), kept, CORPUS[:20], NEVER_COUNTED)


@pytest.mark.parametrize(
    "name",
    ["none", "roberta", "bert", "template", "byte level", "template in a sequence", "roberta in a sequence"],
)
def test_every_post_processor_puts_the_same_tokens_around(tmp_path: Path, name: str) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    byte_level_bpe(source, name, vocab_size=400)
    pruned(source, out, CORPUS[:5], 280)
    before, after = load(source), load(out)
    start, end = after.token_to_id("<s>"), after.token_to_id("</s>")
    for texts in (("goal",), ("goal", "rain")):
        old, new = before.encode(*texts), after.encode(*texts)
        assert new.special_tokens_mask.count(1) == old.special_tokens_mask.count(1)
        assert [new.tokens[0], new.tokens[-1]] == [old.tokens[0], old.tokens[-1]] or name in ("none", "byte level")
        assert [after.id_to_token(number) for number in new.ids] == new.tokens
        if name not in ("none", "byte level"):
            assert (new.ids[0], new.ids[-1]) == (start, end)


def test_padding_is_written_with_the_new_id(bpe: Path, tmp_path: Path) -> None:
    tokenizer = load(bpe)
    tokenizer.enable_padding(length=40, pad_id=tokenizer.token_to_id("<pad>"), pad_token="<pad>")
    tokenizer.enable_truncation(40)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    pruned(tmp_path, tmp_path)
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert again.padding["pad_id"] == again.token_to_id("<pad>") == again.encode("goal").ids[-1]
    assert again.padding["length"] == again.truncation["max_length"] == 40


def test_padding_with_a_piece_that_went_becomes_the_first_id(wordpiece: Path, tmp_path: Path) -> None:
    tokenizer = load(wordpiece)
    gone = tokenizer.token_to_id("weather") or tokenizer.get_vocab_size() - 1
    tokenizer.enable_padding(pad_id=gone, pad_token="no such token")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    kept = pruned(tmp_path, tmp_path, ["goal"])
    assert gone not in kept
    assert tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).padding["pad_id"] == 0


def test_pruning_twice_is_pruning_once(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    kept = pruned(folder, first, CORPUS[:30], None)
    assert pruned(first, second, CORPUS[:30], None) == list(range(len(kept)))
    for path in first.iterdir():
        assert (second / path.name).read_bytes() == path.read_bytes()


def test_a_config_gets_the_new_ids() -> None:
    config = {"vocab_size": 30522, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 7, "cls_token_id": 101,
              "sep_token_id": 102, "unk_token_id": 100, "mask_token_id": 103, "decoder_start_token_id": 101,
              "hidden_size": 102, "model_type": "bert"}  # fmt: skip
    before = dict(config)
    assert renumbered_ids(config, {0: 0, 100: 1, 101: 2, 102: 3, 103: 4, 2000: 5}) == {
        "vocab_size": 6, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None, "cls_token_id": 2,
        "sep_token_id": 3, "unk_token_id": 1, "mask_token_id": 4, "decoder_start_token_id": 2,
        "hidden_size": 102, "model_type": "bert",
    }  # fmt: skip
    assert config == before


def test_a_config_without_a_vocabulary_size_gets_one() -> None:
    assert renumbered_ids({"model_type": "bert"}, {3: 0, 5: 1}) == {"model_type": "bert", "vocab_size": 2}
