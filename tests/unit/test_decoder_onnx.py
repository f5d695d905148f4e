"""A decoder's ONNX file computes what torch computes: all at once, token by token, and with a cache of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tiny_decoders import FAMILIES, LLAMA_3, tiny_decoder

from edgetf.config.language.stages import LanguageExportConfig
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ConfigError
from edgetf.formats.decoder.onnx import Written, write_onnx
from edgetf.models.decoders.facts import decoder_facts
from edgetf.runtime.decode.load import open_decoder

TOKENS = 40  # more than a sliding window of the tiny models has
CHANGES: dict[str, dict[str, Any]] = {"gpt2": {"n_layer": 1}}  # which derives the width of a head
IDS = np.random.default_rng(0).integers(0, 300, TOKENS)


def facts_of(model: Any, folder: Path, **changes: Any) -> DecoderFacts:
    model.config.save_pretrained(folder)
    return DecoderFacts(**{**vars(decoder_facts(folder)), **changes})


def written(model: Any, facts: DecoderFacts, folder: Path, said: list[str] | None = None, **settings: Any) -> Written:
    config = LanguageExportConfig(**settings)
    say = (said if said is not None else []).append
    return write_onnx(model, facts, folder / "model.onnx", config, lambda: IDS[None], say)


def torch_logits(model: Any) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(IDS[None])).logits[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_torchs_logits_at_once_and_token_by_token(family: str, tmp_path: Path) -> None:
    model = tiny_decoder(family, **CHANGES.get(family, {"head_dim": 16}))
    facts, said = facts_of(model, tmp_path), list[str]()
    graph = written(model, facts, tmp_path, said).graph
    assert graph == ("plain" if family in ("gpt2", "gemma2") else "fused")
    assert len(said) == (graph == "plain")  # it says so
    session, wanted = open_decoder(tmp_path, "model.onnx", facts, "ort", 1), torch_logits(model)
    at_once, _ = session.run(IDS, session.start())
    np.testing.assert_allclose(at_once, wanted, atol=1e-4 * np.abs(wanted).max())
    cache, parts = session.start(), []
    for part in (IDS[:20], IDS[20:33], *IDS[33:, None]):  # a prefill, more of the prompt, and single tokens
        logits, cache = session.run(part, cache)
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts), wanted, atol=1e-4 * np.abs(wanted).max())


def test_llama_3_turns_its_positions_in_the_fused_graph(tmp_path: Path) -> None:
    model = tiny_decoder("llama", head_dim=16, rope_scaling=LLAMA_3)
    facts = facts_of(model, tmp_path)
    assert written(model, facts, tmp_path).graph == "fused"
    session, wanted = open_decoder(tmp_path, "model.onnx", facts, "ort", 1), torch_logits(model)
    np.testing.assert_allclose(session.run(IDS, session.start())[0], wanted, atol=1e-4 * np.abs(wanted).max())
    plain = torch_logits(tiny_decoder("llama", head_dim=16))
    assert np.abs(plain - wanted).max() > 1e-2 * np.abs(wanted).max()  # the rule does something


def test_a_fused_file_holds_every_weight_once_and_no_table_of_positions(tmp_path: Path) -> None:
    model = tiny_decoder("llama", head_dim=16, max_position_embeddings=8192)
    written(model, facts_of(model, tmp_path), tmp_path)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert weights < (tmp_path / "model.onnx").stat().st_size < weights + 16_000


def test_a_graph_that_shall_not_be_fused_has_standard_operators_alone(tmp_path: Path) -> None:
    model = tiny_decoder("llama", num_hidden_layers=1)
    found = written(model, facts_of(model, tmp_path), tmp_path, fuse=False)
    assert found.graph == "plain"
    assert {node.domain for node in onnx.load(tmp_path / "model.onnx").graph.node} == {""}


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_cache_of_bytes_changes_logits_little_and_can_be_turned(family: str, tmp_path: Path) -> None:
    model = tiny_decoder(family, head_dim=16)
    facts = facts_of(model, tmp_path, kv_cache="int8")
    assert facts.cache_bytes_per_token * 4 == facts_of(model, tmp_path).cache_bytes_per_token
    written(model, facts, tmp_path, kv_cache="int8")
    session, wanted = open_decoder(tmp_path, "model.onnx", facts, "ort", 1), torch_logits(model)
    cache, parts = session.start(), []
    for part in (IDS[:30], *IDS[30:, None]):
        logits, cache = session.run(part, cache)
        parts.append(logits)
    found = np.concatenate(parts)
    assert 1e-4 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    kept = cache.keep(np.arange(10, TOKENS))
    at_zero = session.run(IDS[10:], session.start())[1]
    first = "past_key_values.0.key"
    keys, same = (each.buffers.rows[first][:, :, : each.length].astype(np.int64) for each in (kept, at_zero))
    assert kept.length == at_zero.length == TOKENS - 10
    assert np.abs(keys - same).max() <= 2  # each rounded once more


def test_narrow_heads_are_not_fused(tmp_path: Path) -> None:
    model, said = tiny_decoder("llama", num_hidden_layers=1), list[str]()
    assert written(model, facts_of(model, tmp_path), tmp_path, said).graph == "plain"
    assert said == ["export: the graph is not fused, as its heads are 8 wide, and the operator takes multiples of 16"]


def test_a_plain_graph_has_no_cache_of_bytes(tmp_path: Path) -> None:
    model = tiny_decoder("gpt2")
    with pytest.raises(ConfigError, match="only the fused graph has it.*gpt2"):
        written(model, facts_of(model, tmp_path, kv_cache="int8"), tmp_path, kv_cache="int8")
