"""An exported decoder's folder: the stages write it, and the runtimes of others open it as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_decoders import SENTENCES, tiny_decoder, tiny_tokenizer

from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.language.stages import LanguageExportConfig, LanguageQuantizeConfig
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.errors import ConfigError, ParityError
from edgetf.core.schemes import Scheme
from edgetf.data.corpus.documents import Corpus
from edgetf.formats.decoder import fused
from edgetf.models.decoders.checkpoint import save_decoder
from edgetf.models.decoders.facts import decoder_facts
from edgetf.stages.language import export, quantize
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.greedy import golden_prompts, read_goldens
from edgetf.validation.language.golden import parity, read_greedy

LENGTH = 48
SHAPE: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "num_hidden_layers": 2}


@dataclass(frozen=True)
class Workbench:
    """A checkpoint in a folder, and what stages are given."""

    folder: Path
    context: LanguageContext
    checkpoint: Artifact

    def export(self, name: str, **settings: Any) -> Artifact:
        config = LanguageExportConfig(**settings)
        return self._sealed(name, lambda out: export.run(config, self.checkpoint, self.context, out, "onnx"))

    def quantize(self, exported: Artifact, scheme: Scheme) -> Artifact:
        config = LanguageQuantizeConfig()
        return self._sealed(scheme, lambda out: quantize.run(config, scheme, exported, self.context, out))

    def _sealed(self, name: str, write: Any) -> Artifact:
        return seal(self.folder / name, stage="test", key=name, parents=[], made={}, write=write)


def workbench(folder: Path, family: str = "llama", **changes: Any) -> Workbench:
    recipe = LanguageRecipe.model_validate(
        {
            "name": "tiny",
            "task": "language_modeling",
            "teacher": {"source": "tiny"},
            "data": {"sources": ["tiny"], "max_length": LENGTH},
            "stages": [{"stage": "export"}],
        }
    )
    documents = tuple(SENTENCES)
    dev = tuple(" ".join(documents[start : start + 4]) for start in range(0, len(documents), 4))
    corpus = Corpus(train=documents, dev=dev, test=dev, fingerprint="tiny")
    context = LanguageContext(recipe, corpus, lambda *_: None, lambda _: None)

    def write(out: Path) -> tuple[Spec, float]:
        tokenizer = out.parent / "tokenizer"
        tokenizer.mkdir(exist_ok=True)
        tiny_tokenizer(tokenizer)
        out.mkdir(exist_ok=True)
        model = tiny_decoder(family, **({} if family == "gpt2" else SHAPE), **changes)
        params = save_decoder(model, out, tokenizer)
        details = {"task": "language_modeling", "max_length": LENGTH, "decoder": decoder_facts(out).to_json()}
        return Spec("torch", "model.safetensors", params, details=details), 0.0

    checkpoint = seal(folder / "checkpoint", stage="test", key="checkpoint", parents=[], made={}, write=write)
    return Workbench(folder, context, checkpoint)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return workbench(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def exported(bench: Workbench) -> Artifact:
    return bench.export("exported")


def test_export_proves_that_it_writes_what_transformers_writes(exported: Artifact) -> None:
    found, golden = exported.spec.details, read_greedy(exported.path)
    assert found["parity"]["greedy_equal"] == found["parity"]["prompts"] == len(golden.prompts) == 20
    assert 0 < found["parity"]["max_logit_error"] < 1e-3
    assert (found["graph"], found["golden"], found["lengths"]) == ("fused", "golden.jsonl", None)
    assert found["inputs"][:2] == ["input_ids", "attention_mask"]
    assert all(tokens for tokens in golden.tokens)


def test_a_graph_that_computes_something_else_is_refused(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    right = fused._rotation
    monkeypatch.setattr(
        fused, "_rotation", lambda graph, facts, index, context: right(graph, facts, index, context)[::-1]
    )
    with pytest.raises(ParityError, match="does not compute this model"):
        bench.export("wrong")


def test_a_context_that_the_model_has_not_is_refused(bench: Workbench) -> None:
    with pytest.raises(ConfigError, match=r"export\.context: got 65, allowed: 48 .* to 64"):
        bench.export("long", context=65)
    with pytest.raises(ConfigError, match=r"export\.context: got 8"):
        bench.export("short", context=8)


def test_quantizing_keeps_the_folder_and_says_how_tokens_changed(bench: Workbench, exported: Artifact) -> None:
    made = bench.quantize(exported, "w8")
    assert {path.name for path in made.path.iterdir()} == {path.name for path in exported.path.iterdir()}
    found = made.spec.details
    assert found["quantized_share"] > 0.95
    assert 0 < found["largest_weight_error"] < 0.02
    compared = parity(read_greedy(exported.path).tokens, read_greedy(made.path).tokens)
    assert found["parity"]["greedy_equal"] == compared["same"]


def test_few_documents_give_as_many_prompts(bench: Workbench, exported: Artifact) -> None:
    from edgetf.core.decoder import DecoderFacts
    from edgetf.runtime.decode.text import TextCodec

    facts = DecoderFacts.from_json(exported.spec.details["decoder"])
    prompts = golden_prompts([" ".join(SENTENCES)], TextCodec(exported.path, facts), facts)
    assert len({prompt.text for prompt in prompts}) == len(prompts) == 20


def genai_tokens(folder: Path, prompts: list[list[int]], length: int) -> list[list[int]]:
    """What onnxruntime-genai writes after prompts."""
    genai = pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    model, rows = genai.Model(str(folder)), []
    for ids in prompts:
        parameters = genai.GeneratorParams(model)
        parameters.set_search_options(max_length=min(length, len(ids) + 64), do_sample=False)
        generator = genai.Generator(model, parameters)
        generator.append_tokens(np.array([ids], np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        rows.append([int(token) for token in generator.get_sequence(0)[len(ids) :]])
    return rows


@pytest.mark.parametrize("settings", [{}, {"kv_cache": "int8"}, {"fuse": False}], ids=["fused", "int8", "plain"])
def test_genai_opens_the_folder_and_writes_the_golden_tokens(bench: Workbench, settings: dict[str, Any]) -> None:
    artifact = bench.export("for-genai", **settings)
    golden = read_greedy(artifact.path)
    rows = genai_tokens(artifact.path, golden.prompts[:6], 64)
    ends = [wanted[:-1] if wanted[-1] == 0 and len(found) < len(wanted) else wanted
            for found, wanted in zip(rows, golden.tokens, strict=False)]  # fmt: skip
    assert rows == ends


def test_genai_reads_the_quantized_folder_and_its_tokenizer(bench: Workbench, exported: Artifact) -> None:
    genai = pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    from edgetf.core.decoder import DecoderFacts
    from edgetf.runtime.decode.text import TextCodec

    made = bench.quantize(exported, "w4")
    rows = read_goldens(made.path)
    codec = TextCodec(made.path, DecoderFacts.from_json(made.spec.details["decoder"]))
    tokenizer = genai.Tokenizer(genai.Model(str(made.path)))
    for text in [*(row.text for row in rows[:5]), "  two  spaces, it's\nnew"]:
        ids = codec.ids(text, begins=False).tolist()
        assert [int(token) for token in tokenizer.encode(text)] == ids
        assert tokenizer.decode(np.array(ids, np.int32)) == codec.text(ids)
    found = genai_tokens(made.path, [list(row.ids) for row in rows[:4]], 64)
    assert [tokens[:8] for tokens in found] == [list(row.greedy[:8]) for row in rows[:4]]


def test_optimum_opens_the_folder(exported: Artifact) -> None:
    optimum = pytest.importorskip("optimum.onnxruntime", reason="optimum-onnx is not installed")
    import torch

    model = optimum.ORTModelForCausalLM.from_pretrained(exported.path, use_cache=True, use_io_binding=False)
    for row in read_goldens(exported.path)[:3]:
        ids = torch.tensor([row.ids])
        written = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)
        assert written[0, len(row.ids) :].tolist() == list(row.greedy[:16])


def test_the_config_of_genai_holds_what_the_facts_hold(exported: Artifact) -> None:
    config = json.loads((exported.path / "genai_config.json").read_text())
    decoder, facts = config["model"]["decoder"], exported.spec.details["decoder"]
    assert config["model"]["type"] == "llama"
    assert config["model"]["context_length"] == facts["max_length"] == 64
    assert (decoder["head_size"], decoder["num_key_value_heads"]) == (16, 1)
