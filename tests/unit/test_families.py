"""A family's paths and cost are held against real models of that family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import FAMILY_NAMES, LABELS, MAX_TOKENS, tiny_classifier, tiny_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification

from edgetf.core.errors import ConfigError
from edgetf.models.checkpoint import load_classifier, read_config
from edgetf.models.families import FAMILIES, family_of
from edgetf.models.shapes import cost_of
from edgetf.models.slicing import feed_forwards_of, heads_of, layers_of

torch.set_num_threads(1)

SHAPES: dict[str, dict[str, Any]] = {
    "as written": {},
    "one layer": {"num_hidden_layers": 1},
    "wide": {"hidden_size": 48, "intermediate_size": 96},
    "two classes": {"num_labels": 2},
}
MOBILEBERT_SHAPES: dict[str, dict[str, Any]] = {
    "four feed-forwards": {"num_feedforward_networks": 4},
    "one feed-forward": {"num_feedforward_networks": 1},
    "layer norm": {"normalization_type": "layer_norm"},
    "unequal widths": {"intra_bottleneck_size": 8, "true_hidden_size": 8, "embedding_size": 24},
    "plain pooler": {"classifier_activation": False},
}
CASES = [(name, shape) for name in FAMILY_NAMES for shape in SHAPES] + [("mobilebert", s) for s in MOBILEBERT_SHAPES]


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_classifier(tiny_classifier(request.param, tmp_path_factory.mktemp(request.param)))


def shaped(family: str, shape: str) -> Any:
    """A fresh model of a family in one of the shapes."""
    config = tiny_config(family, LABELS)
    for name, value in {**SHAPES, **MOBILEBERT_SHAPES}[shape].items():
        setattr(config, name, value)
    return AutoModelForSequenceClassification.from_config(type(config)(**config.to_dict()), attn_implementation="eager")


def macs_of(model: Any, tokens: int) -> float:
    """Multiply-accumulates of one forward pass, counted by torch."""
    ids = torch.full((1, tokens), 9)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops() / 2


def test_every_family_is_tested() -> None:
    assert set(FAMILIES) == set(FAMILY_NAMES)


def test_every_path_leads_to_a_module(model: Any) -> None:
    family = family_of(model.config.model_type)
    assert isinstance(model.get_submodule(family.layers), nn.ModuleList)
    for layer in layers_of(model):
        for path in (family.query, family.key, family.value, family.attention_output):
            assert isinstance(layer.get_submodule(path), nn.Linear), path
        for part in feed_forwards_of(model):
            up, down = layer.get_submodule(part.up), layer.get_submodule(part.down)
            assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
            assert up.out_features == down.in_features == 64


def test_head_attributes_hold_the_number_and_the_width(model: Any) -> None:
    family = family_of(model.config.model_type)
    for layer in layers_of(model):
        attention = layer.get_submodule(family.attention)
        assert [getattr(attention, name) for name in family.head_count] == [4]
        assert heads_of(model, layer) == 4
        width = layer.get_submodule(family.query).out_features
        assert [getattr(attention, name) for name in family.head_width] == [width]


def test_config_names_are_the_familys_own(model: Any) -> None:
    family, config = family_of(model.config.model_type), model.config
    assert getattr(config, family.num_hidden_layers) == len(layers_of(model)) == 2
    assert getattr(config, family.num_attention_heads) == 4
    assert getattr(config, family.intermediate_size) == 64
    assert getattr(config, family.hidden_size) == 32


def test_token_types_are_taken_where_the_family_says_so(model: Any) -> None:
    ids = torch.tensor([[2, 9, 10, 3]])
    types = torch.tensor([[0, 0, 1, 1]])
    if family_of(model.config.model_type).takes_token_types:
        plain, typed = model(input_ids=ids).logits, model(input_ids=ids, token_type_ids=types).logits
        assert (plain - typed).abs().max() > 1e-4
    else:
        assert getattr(model.config, "type_vocab_size", 0) < 2


def test_every_weighted_module_of_a_layer_is_known(model: Any) -> None:
    """Nothing that is as wide as the neurons or the heads is left out of the family's paths."""
    family = family_of(model.config.model_type)
    layer = layers_of(model)[0]
    known = {path for part in feed_forwards_of(model) for path in (part.up, part.down)}
    neurons = {name for name, part in layer.named_modules() if isinstance(part, nn.Linear) and 64 in part.weight.shape}
    assert neurons == known
    attention = {name for name, part in layer.named_modules() if isinstance(part, nn.Linear) and "attention" in name}
    wanted = {family.query, family.key, family.value, family.attention_output}
    assert wanted <= attention
    assert {name for name in attention - wanted if not name.startswith("bottleneck")} == set()


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_cost_counts_every_parameter(family: str, shape: str) -> None:
    model = shaped(family, shape)
    cost = cost_of(model.config.to_dict(), 16)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_cost_counts_the_multiplications(family: str, shape: str) -> None:
    model = shaped(family, shape)
    for tokens in (4, MAX_TOKENS):
        cost = cost_of(model.config.to_dict(), tokens)
        assert cost.macs == pytest.approx(macs_of(model, tokens), rel=0.05)


def test_cost_reads_a_saved_config(model: Any, tmp_path: Any) -> None:
    """config.json holds less than the config object; the cost is the same."""
    model.config.save_pretrained(tmp_path)
    assert cost_of(read_config(tmp_path), 32) == cost_of(model.config.to_dict(), 32)


def test_cost_grows_with_length(model: Any) -> None:
    config = model.config.to_dict()
    short, long = cost_of(config, 8), cost_of(config, 16)
    assert long.macs > short.macs
    assert (long.params, long.ops) == (short.params, short.ops)


def test_unknown_family_names_the_near_match() -> None:
    with pytest.raises(ConfigError, match="did you mean distilbert"):
        family_of("distilberta")
