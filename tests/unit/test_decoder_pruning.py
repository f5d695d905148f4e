"""Units whose outputs are zero can go without a trace, and what is left opens as a plain folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoders import FAMILIES, decoder_folder, language_context, sealed, tiny_decoder, tiny_tokenizer

from edgetf.config.language.models import LlamaShape
from edgetf.config.language.stages import LanguagePruneConfig
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ConfigError
from edgetf.models.decoders.axes import layers_of, reading_norms
from edgetf.models.decoders.checkpoint import count_parameters, load_decoder, save_decoder
from edgetf.models.decoders.facts import decoder_facts
from edgetf.models.decoders.shapes import DecoderShape, pruned_shape, shape_of, shape_to_make
from edgetf.models.decoders.sizes import DecoderSize, pruned_size
from edgetf.models.decoders.slicing import KeptUnits, keep_layers, narrow
from edgetf.models.decoders.students import llama
from edgetf.pipeline.language.plan import make_language_plan
from edgetf.stages.language import prune
from edgetf.stages.language.influence import influences, measure, norm_factors

IDS = torch.arange(40)[None] * 7 % 300
BLOCKS = (np.arange(5 * 24).reshape(5, 24) * 13 % 300).astype(np.int32)
GATED = tuple(family for family in FAMILIES if family != "gpt2")
ALL = list(range(32))


def every_unit(model: Any) -> list[KeptUnits]:
    """All units of all layers."""
    shape = shape_of(model.config)
    groups = {group: [group * shape.heads + head for head in range(shape.heads)] for group in range(shape.groups)}
    return [KeptUnits(groups, list(range(shape.neurons))) for _ in range(shape.layers)]


def zero_hidden(model: Any, gone: list[int]) -> None:
    """Let nothing write into these hidden dimensions."""
    with torch.no_grad():
        model.model.embed_tokens.weight[:, gone] = 0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[gone] = 0
            layer.mlp.down_proj.weight[gone] = 0


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.mark.parametrize("family", GATED)
def test_narrow_equals_zeroing(family: str, tmp_path: Path) -> None:
    model = tiny_decoder(family)
    kept = [
        KeptUnits({1: [2]}, [1, 5, 40]),
        KeptUnits({0: [1]}, [0, 2, 47]),
        KeptUnits({1: [3]}, [7, 8, 9]),
    ]
    hidden = [k for k in ALL if k % 4]
    zero_hidden(model, [k for k in ALL if k % 4 == 0])
    with torch.no_grad():
        for layer, units in zip(model.model.layers, kept, strict=True):
            heads = [head for group in units.groups.values() for head in group]
            mask = torch.zeros(4, 8)
            mask[heads] = 1
            layer.self_attn.o_proj.weight.mul_(mask.flatten())
            neurons = torch.zeros(48)
            neurons[units.neurons] = 1
            layer.mlp.down_proj.weight.mul_(neurons)
    small = narrow(model, kept, hidden)
    assert shape_of(small.config) == DecoderShape(3, 1, 1, 3, 24)
    torch.testing.assert_close(logits(small), logits(model), rtol=1e-4, atol=1e-3)
    tiny_tokenizer(tmp_path)
    assert save_decoder(small, tmp_path, tmp_path) < sum(tensor.numel() for tensor in model.parameters())
    torch.testing.assert_close(logits(load_decoder(tmp_path)), logits(small), rtol=0, atol=0)
    facts = decoder_facts(tmp_path)
    assert (facts.num_attention_heads, facts.num_key_value_heads, facts.head_dim, facts.hidden_size) == (1, 1, 8, 24)


@pytest.mark.parametrize("family", GATED)
def test_measured_norms_are_exact_where_the_others_are_zero(family: str) -> None:
    model = tiny_decoder(family)
    gone, hidden = [3, 8, 20, 21], torch.tensor([k for k in ALL if k not in (3, 8, 20, 21)])
    zero_hidden(model, gone)
    factors = norm_factors(model, hidden, BLOCKS, lambda *progress: None)
    small = narrow(model, every_unit(model), hidden.tolist(), factors)
    torch.testing.assert_close(logits(small), logits(model), rtol=1e-4, atol=1e-3)


def test_measured_norms_give_more_of_the_answer_than_none(tmp_path: Path) -> None:
    model = tiny_decoder("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 16:] *= 0.1
    hidden = torch.arange(16)
    factors = norm_factors(model, hidden, BLOCKS, lambda *progress: None)
    plain = dict.fromkeys(factors, 1.0)
    measured, sliced = (narrow(model, every_unit(model), hidden.tolist(), found) for found in (factors, plain))
    assert torch.dist(logits(measured), logits(model)) < torch.dist(logits(sliced), logits(model))


def test_neurons_and_layers_of_a_gpt2_go_and_nothing_else(tmp_path: Path) -> None:
    model = tiny_decoder("gpt2")
    neurons = torch.zeros(48)
    neurons[[1, 5, 40]] = 1
    with torch.no_grad():
        for layer in model.transformer.h:
            layer.mlp.c_proj.weight.mul_(neurons[:, None])
    groups = {head: [head] for head in range(4)}
    small = narrow(model, [KeptUnits(groups, [1, 5, 40])] * 3, ALL)
    torch.testing.assert_close(logits(small), logits(model), rtol=1e-5, atol=1e-5)
    tiny_tokenizer(tmp_path)
    save_decoder(keep_layers(small, [0, 2]), tmp_path, tmp_path)
    assert shape_of(load_decoder(tmp_path).config) == DecoderShape(2, 4, 1, 3, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_that_writes_nothing_has_no_influence_and_goes_without_a_trace(family: str) -> None:
    model = tiny_decoder(family)
    with torch.no_grad():
        for name, tensor in layers_of(model)[1].named_parameters():
            if any(part in name for part in ("o_proj", "down_proj", "c_proj")):
                tensor.zero_()
    found = influences(model, BLOCKS, lambda *progress: None)
    assert found[1] == pytest.approx(0, abs=1e-6)
    assert min(found[0], found[2]) > 1e-3
    kept = prune.strongest(found, 2)
    assert kept == [0, 2]
    small = keep_layers(model, kept)
    if family == "gemma3_text":
        assert small.config.layer_types == ["sliding_attention", "full_attention"]
    torch.testing.assert_close(logits(small), logits(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["magnitude", "activation", "taylor"])
@pytest.mark.parametrize("family", FAMILIES)
def test_units_that_do_nothing_are_the_least_important(family: str, kind: Any) -> None:
    model = tiny_decoder(family)
    with torch.no_grad():
        for layer in layers_of(model):
            for name, tensor in layer.named_parameters():
                if name in ("self_attn.v_proj.weight", "self_attn.v_proj.bias"):
                    tensor[:8] = 0  # the first KV group gives nothing
                if name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
                    tensor[:, : 16 if "o_proj" in name else 3] = 0
                if name == "mlp.c_proj.weight":
                    tensor[:3] = 0
                if name in ("mlp.up_proj.weight", "mlp.up_proj.bias", "mlp.gate_proj.weight"):
                    tensor[:3] = 0
                if name in ("mlp.c_fc.weight", "mlp.c_fc.bias"):
                    tensor[..., :3] = 0
    found = measure(model, kind, BLOCKS, 0, lambda *progress: None)
    assert [len(heads) for heads in found.heads] == [4] * 3
    assert len(found.hidden) == 32
    for heads, neurons in zip(found.heads, found.neurons, strict=True):
        assert sorted(neurons.argsort()[:3].tolist()) == [0, 1, 2]
        if family != "gpt2":
            assert sorted(heads.argsort()[:2].tolist()) == [0, 1]


@pytest.mark.parametrize("kind", ["activation", "taylor"])
def test_a_hidden_dimension_that_no_norm_lets_through_is_the_least_important(kind: Any) -> None:
    model = tiny_decoder("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            for norm in reading_norms(model, layer):
                norm.weight[11] = 0
    assert measure(model, kind, BLOCKS, 0, lambda *progress: None).hidden.argmin() == 11


def test_taylor_is_the_change_of_the_loss_by_a_mask() -> None:
    model = tiny_decoder("llama")
    found = measure(model, "taylor", BLOCKS[:1], 0, lambda *progress: None)
    ids = torch.from_numpy(BLOCKS[:1].astype(np.int64))

    def loss(factor: float) -> float:
        changed = tiny_decoder("llama")
        with torch.no_grad():
            changed.model.layers[1].mlp.down_proj.weight[:, 5] *= factor
            return float(changed(ids, labels=ids).loss)

    slope = (loss(1.01) - loss(0.99)) / 0.02
    assert float(found.neurons[1][5]) == pytest.approx(abs(slope), rel=0.02)


@given(
    layer=st.floats(0, 0.99), group=st.floats(0, 0.99), head=st.floats(0, 0.99), ffn=st.floats(0, 0.99),
    hidden=st.floats(0, 0.99), round_to=st.sampled_from([1, 4, 8]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_group_keeps_as_many_heads_and_the_rest_reloads(
    layer: float, group: float, head: float, ffn: float, hidden: float, round_to: int
) -> None:
    model = tiny_decoder("qwen3")
    config = LanguagePruneConfig.model_construct(
        layer_ratio=layer, kv_group_ratio=group, head_ratio=head, ffn_ratio=ffn, hidden_ratio=hidden,
        round_to=round_to, importance="magnitude",
    )  # fmt: skip
    before = shape_of(model.config)
    try:
        shape = pruned_shape("qwen3", before, config)
    except ConfigError as error:
        assert "too small to remove anything" in str(error)
        return
    small, _ = prune.pruned(model, shape, BLOCKS[:1], config, language_context())
    assert shape_of(small.config) == shape
    assert all(0 < getattr(shape, name) <= getattr(before, name) for name in vars(before))
    assert shape.hidden % round_to == 0
    assert logits(small).shape == (1, 40, 300)


@pytest.mark.parametrize(
    ("family", "ratios", "words"),
    [
        ("gpt2", {"head_ratio": 0.5}, "prune.head_ratio: got 0.5, allowed: 0 for a gpt2"),
        ("gpt2", {"hidden_ratio": 0.5, "ffn_ratio": 0.5}, "prune.hidden_ratio: got 0.5, allowed: 0 for a gpt2"),
        ("llama", {"ffn_ratio": 0.01, "round_to": 16}, "too small to remove anything"),
        ("gemma3_text", {"hidden_ratio": 0.22, "round_to": 1}, "a hidden width of 25, allowed for a gemma3_text: 1"),
    ],
)
def test_what_no_folder_could_hold_is_refused_in_words(family: str, ratios: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        pruned_shape(family, shape_of(tiny_decoder(family).config), LanguagePruneConfig.model_validate(ratios))


def test_a_shape_to_make_is_the_shape_of_what_is_made() -> None:
    shape = LlamaShape(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, intermediate_size=40
    )
    assert shape_to_make(shape) == shape_of(llama(shape, 50, 16, 0).config)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "gemma3_text"])
def test_the_weights_that_pruning_leaves_are_foretold(family: str, tmp_path: Path) -> None:
    before = tiny_decoder(family, tie_word_embeddings=True)
    changes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32,
               "hidden_size": 16, "layer_types": None, "tie_word_embeddings": True}  # fmt: skip
    after = tiny_decoder(family, **changes)
    size = DecoderSize(count_parameters(before), 300, 32)
    found = pruned_size(size, shape_of(before.config), shape_of(after.config))
    assert found.hidden_size == 16 and found.params == pytest.approx(count_parameters(after), rel=0.03)


def test_a_recipe_is_refused_before_its_documents_are_read(tmp_path: Path) -> None:
    source = decoder_folder(tmp_path / "source", "gpt2")
    stages = [{"stage": "prune", "head_ratio": 0.5}, {"stage": "export"}]
    with pytest.raises(ConfigError, match="allowed: 0 for a gpt2"):
        make_language_plan(language_context(str(source), stages=stages).recipe)


def test_a_student_of_fewer_layers_is_pruned_from_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))
    source = sealed(decoder_folder(tmp_path / "source"), tmp_path)
    context = language_context(str(source), 16, student={"architecture": "teacher", "num_hidden_layers": 2}).with_tutor(
        source
    )
    config = LanguagePruneConfig(steps=0, ffn_ratio=0.5, round_to=8, importance="magnitude", importance_sequences=8)
    spec, _ = prune.run(config, source, context, tmp_path / "out")
    assert (spec.details["before"]["layers"], spec.details["after"]["layers"]) == (2, 2)
    assert load_decoder(tmp_path / "out").config.num_hidden_layers == 2


def test_heads_that_share_nothing_go_as_groups(tmp_path: Path) -> None:
    before = shape_of(tiny_decoder("qwen2", num_key_value_heads=4).config)
    with pytest.raises(ConfigError, match="each KV group has one query head; use kv_group_ratio"):
        pruned_shape("qwen2", before, LanguagePruneConfig(head_ratio=0.5))
    assert pruned_shape("qwen2", before, LanguagePruneConfig(kv_group_ratio=0.25)).groups == 3


def context_of(source: Any, **prune_config: Any) -> Any:
    return language_context(str(source), 16).with_tutor(source)


def test_without_steps_the_stage_writes_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))
    source = sealed(decoder_folder(tmp_path / "source", "gemma3_text"), tmp_path)
    config = LanguagePruneConfig(
        steps=0, layer_ratio=0.34, head_ratio=0.5, ffn_ratio=0.5, hidden_ratio=0.25, round_to=8, importance_sequences=8
    )
    spec, _ = prune.run(config, source, context_of(source), tmp_path / "out")
    assert spec.details["before"] == {"layers": 3, "groups": 2, "heads": 2, "neurons": 48, "hidden": 32}
    assert spec.details["after"] == {"layers": 2, "groups": 2, "heads": 1, "neurons": 24, "hidden": 24}
    assert len(spec.details["influence"]) == 3
    assert DecoderFacts.from_json(spec.details["decoder"]).num_attention_heads == 2
    model = load_decoder(tmp_path / "out")
    assert spec.params == sum(tensor.numel() for tensor in model.parameters())
    assert logits(model).isfinite().all()
    assert spec.metrics[0].name == "dev_perplexity"


def test_recovery_brings_the_pruned_model_nearer_to_its_tutor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))
    source = sealed(decoder_folder(tmp_path / "source", "llama", initializer_range=0.05), tmp_path)
    settings = {"ffn_ratio": 0.5, "kv_group_ratio": 0.5, "round_to": 8, "importance_sequences": 8, "batch_size": 8}
    found = []
    for steps in (0, 30):
        config = LanguagePruneConfig.model_validate({**settings, "steps": steps, "learning_rate": 3e-3})
        spec, _ = prune.run(config, source, context_of(source), tmp_path / f"out-{steps}")
        found.append(spec.metrics[0].value)
    assert found[1] < found[0]
