"""Tokens that no document uses go, and what stays is read and predicted as before."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoder_teacher import gguf_fields
from tiny_decoders import FAMILIES, SENTENCES, decoder_folder, language_context, sealed, tiny_decoder
from tokenizers import Tokenizer, decoders, models, normalizers

from edgetf.config.language.stages import LanguageVocabularyConfig
from edgetf.core.errors import ConfigError
from edgetf.models.decoders.checkpoint import load_decoder, save_decoder
from edgetf.models.decoders.gguf_tokenizer import write_tokenizer
from edgetf.models.decoders.slicing import keep_tokens
from edgetf.models.vocabulary import choose_pieces, count_pieces, prune_tokenizer
from edgetf.stages.language import vocabulary

OTHERS = ("zebras quarrel at 7:30, don't they?", "naïve 東京 🙂", "the foxes")


def opened(folder: Path) -> Any:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def pruned(source: Path, out: Path, counted: tuple[str, ...], size: int | None) -> list[int]:
    kept = choose_pieces(source, count_pieces(source, counted), size, unused_added=False)
    out.mkdir(exist_ok=True)
    prune_tokenizer(source, out, kept)
    return kept


def least(folder: Path, counts: Any) -> int:
    """The smallest size that is allowed, as the error tells it."""
    with pytest.raises(ConfigError) as error:
        choose_pieces(folder, counts, 0)
    return int(str(error.value).split("allowed: ")[1].split()[0])


def reads_the_same(source: Path, out: Path, kept: list[int], texts: tuple[str, ...]) -> int:
    """Texts whose tokens all stay get the same ones; gives how many those are."""
    before, after, new_of = opened(source), opened(out), {old: new for new, old in enumerate(kept)}
    same = 0
    for text in texts:
        old, new = before.encode(text), after.encode(text)
        if new_of.keys() >= set(old.ids):
            assert (new.tokens, new.ids) == (old.tokens, [new_of[number] for number in old.ids])
            same += 1
        assert after.decode(new.ids) == before.decode(old.ids)
    return same


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    """A BPE of SentencePiece's kind: byte fallback, a run of spaces, and specials that nothing names."""
    fields = gguf_fields()
    fields["tokens"] += [f"<unused{k}>" for k in range(5)]
    fields["token_type"] += [3] * 5
    fields["scores"] += [-1000.0] * 5
    (tmp_path / "source").mkdir()
    write_tokenizer(fields, tmp_path / "source")
    return tmp_path / "source"


def test_byte_fallback_needs_its_bytes_and_no_character(gemma: Path, tmp_path: Path) -> None:
    kept = pruned(gemma, tmp_path / "out", ("the the",), None)
    names = set(opened(tmp_path / "out").get_vocab())
    assert {f"<0x{byte:02X}>" for byte in range(256)} <= names
    assert {"▁the", "the", "<bos>", "<eos>", "<pad>", "<unk>"} <= names
    assert not {name for name in names if name.startswith("<unused")}
    texts = (*SENTENCES[:8], *OTHERS, "the  the")
    assert reads_the_same(gemma, tmp_path / "out", kept, ("the the", *texts)) >= 1
    assert "<0xF0>" in opened(tmp_path / "out").encode("🙂").tokens


def test_a_token_that_only_a_chat_template_names_stays(gemma: Path, tmp_path: Path) -> None:
    (gemma / "chat_template.jinja").write_text("<unused3>{{ messages }}")
    pruned(gemma, tmp_path / "out", ("the",), None)
    names = set(opened(tmp_path / "out").get_vocab())
    assert "<unused3>" in names
    assert "<unused2>" not in names


def test_an_added_token_that_a_text_holds_stays(gemma: Path, tmp_path: Path) -> None:
    kept = pruned(gemma, tmp_path / "out", ("the  the<unused1>",), None)
    assert {"▁▁", "<unused1>"} <= set(opened(tmp_path / "out").get_vocab())
    assert reads_the_same(gemma, tmp_path / "out", kept, ("the  the<unused1>",)) == 1


@given(
    pieces=st.dictionaries(st.text("abc", min_size=2, max_size=4), st.floats(-20, -1), max_size=12),
    letters=st.lists(st.floats(-20, -1), min_size=4, max_size=4),
    texts=st.lists(st.text("abcd", min_size=1, max_size=10), min_size=1, max_size=6),
    counted=st.integers(0, 6),
    share=st.floats(0, 1),
    fallback=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_unigram_reads_kept_texts_as_before_whatever_its_scores(
    pieces: dict[str, float], letters: list[float], texts: list[str], counted: int, share: float, fallback: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    source = tmp_path_factory.mktemp("unigram")
    spelled = list(zip("abcé" if fallback else "abcd", letters, strict=True))
    vocab = [("<unk>", 0.0), *spelled, *pieces.items()]
    if fallback:
        vocab += [(f"<0x{byte:02X}>", 0.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=fallback))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.save(str(source / "tokenizer.json"))
    counts = count_pieces(source, texts[:counted])
    (source / "out").mkdir()
    floor = least(source, counts)
    size = floor + round(share * (len(vocab) - floor))
    kept = choose_pieces(source, counts, size)
    assert len(kept) <= size
    prune_tokenizer(source, source / "out", kept)
    before, after = opened(source), opened(source / "out")
    new_of = {old: new for new, old in enumerate(kept)}
    for number, text in enumerate(texts):
        old, new = before.encode(text), after.encode(text)
        if new_of.keys() >= set(old.ids):
            assert [after.id_to_token(k) for k in new.ids] == [before.id_to_token(k) for k in old.ids]
        if number < counted and 0 not in old.ids:
            assert 0 not in new.ids


def test_the_lowest_score_stays_because_the_unknown_is_measured_by_it(tmp_path: Path) -> None:
    scores = {"<unk>": 0.0, "c": -50.0, "abc": -1.0, "ab": -40.0, "cé": -40.0, "yy": -60.0, "zz": -100.0}
    Tokenizer(models.Unigram(list(scores.items()), unk_id=0)).save(str(tmp_path / "tokenizer.json"))
    assert opened(tmp_path).encode("abcé").tokens == ["ab", "cé"]
    kept = choose_pieces(tmp_path, np.array([0, 0, 1, 1, 1, 0, 0]), 6)
    assert kept == [0, 1, 2, 3, 4, 6]
    for ids, tokens in ((kept, ["ab", "cé"]), (kept[:-1], ["abc", "é"])):
        prune_tokenizer(tmp_path, tmp_path, ids)
        assert opened(tmp_path).encode("abcé").tokens == tokens


def test_a_real_unigram_tokenizer_reads_kept_texts_as_before(tmp_path: Path) -> None:
    from tokenizers import pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    texts = (*SENTENCES, *OTHERS)
    tokenizer.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    floor = least(tmp_path, count_pieces(tmp_path, SENTENCES))
    for size in (None, floor, floor + 3):
        kept = pruned(tmp_path, tmp_path / "out", SENTENCES, size)
        same = reads_the_same(tmp_path, tmp_path / "out", kept, SENTENCES)
        assert same == len(SENTENCES) if size is None else same < len(SENTENCES)
        assert 0 not in {number for text in SENTENCES for number in opened(tmp_path / "out").encode(text).ids}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_kept_columns_of_what_they_were(family: str, tmp_path: Path) -> None:
    model = tiny_decoder(family, pad_token_id=299, eos_token_id=[0, 7])
    model.generation_config.eos_token_id = [0, 8]
    kept = sorted({0, 299, *random.Random(0).sample(range(300), 120)} - {7})
    small = keep_tokens(model, kept)
    ids = torch.arange(40)[None] % len(kept)
    with torch.no_grad():
        wanted = model(torch.tensor(kept)[ids]).logits[..., kept]
        torch.testing.assert_close(small(ids).logits, wanted, rtol=1e-5, atol=1e-5)
    assert small.config.vocab_size == len(kept)
    assert (small.config.eos_token_id, small.config.pad_token_id) == ([0], len(kept) - 1)
    assert small.generation_config.eos_token_id == [0, *([kept.index(8)] if 8 in kept else [])]
    assert model.generation_config.eos_token_id == [0, 8]


def test_the_stage_writes_a_smaller_model_that_reads_its_documents_as_before(tmp_path: Path) -> None:
    source = sealed(decoder_folder(tmp_path / "source", "gemma3_text"), tmp_path)
    context = language_context()
    spec, _ = vocabulary.run(LanguageVocabularyConfig(size=297), source, context, tmp_path / "out")
    small, large = load_decoder(tmp_path / "out"), load_decoder(source.path)
    assert spec.params == sum(tensor.numel() for tensor in small.parameters())
    assert spec.details["decoder"]["vocab_size"] == small.config.vocab_size == 297
    assert spec.details["before"] == {"vocab_size": 300}
    assert (spec.details["decoder"]["bos_id"], spec.details["decoder"]["eos_ids"]) == (0, (0,))
    before, after = opened(source.path), opened(tmp_path / "out")
    kept = [before.token_to_id(name) for name, _ in sorted(after.get_vocab().items(), key=lambda pair: pair[1])]
    same = 0
    for text in context.corpus.test:
        old, new = torch.tensor([before.encode(text).ids]), torch.tensor([after.encode(text).ids])
        if set(old[0].tolist()) <= set(kept):
            same += 1
            wanted = large(old).logits[..., kept]
            torch.testing.assert_close(small(new).logits, wanted, rtol=1e-4, atol=1e-4)
    assert same


def test_a_size_that_is_too_small_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    source = sealed(decoder_folder(tmp_path / "source"), tmp_path)
    (source.path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="vocabulary.size: got 50, allowed: 257 or more"):
        vocabulary.run(LanguageVocabularyConfig(size=50), source, language_context(), tmp_path / "out")


def test_a_generation_config_names_the_new_ids(tmp_path: Path) -> None:
    source = decoder_folder(tmp_path / "source", "llama", eos_token_id=299, bos_token_id=299)
    model = load_decoder(source)
    save_decoder(keep_tokens(model, [*range(200), 299]), tmp_path / "out", source)
    for name in ("config.json", "generation_config.json"):
        record = json.loads((tmp_path / "out" / name).read_text())
        assert (record["bos_token_id"], record["eos_token_id"]) == (200, 200)
