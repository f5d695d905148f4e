"""Removing heads and neurons equals multiplying them by zero, and what is removed stays removed on disk."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import FAMILY_NAMES, tiny_classifier
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from edgetf.models.checkpoint import load_classifier, save_classifier
from edgetf.models.families import family_of
from edgetf.models.slicing import (
    feed_forwards_of,
    heads_of,
    layers_of,
    linear_at,
    narrow_feed_forward,
    narrow_heads,
)

torch.set_num_threads(1)

HEADS, NEURONS, LAYERS = 4, 64, 2
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# What stays: for every layer its heads, and for every layer and feed-forward its neurons.
Kept = tuple[list[list[int]], list[list[list[int]]]]


def some_of(count: int) -> st.SearchStrategy[list[int]]:
    """A set of positions that is not empty, ascending."""
    return st.sets(st.integers(0, count - 1), min_size=1).map(sorted)


kept_sets: st.SearchStrategy[Kept] = st.tuples(
    st.lists(some_of(HEADS), min_size=LAYERS, max_size=LAYERS),
    st.lists(st.lists(some_of(NEURONS), min_size=2, max_size=2), min_size=LAYERS, max_size=LAYERS),
)


@cache
def checkpoint(family: str) -> Path:
    return tiny_classifier(family, Path(mkdtemp(prefix=f"tiny-{family}-")))


@cache
def _whole(family: str) -> Any:
    return load_classifier(checkpoint(family))


def whole(family: str) -> Any:
    """A copy of the unpruned model."""
    return copy.deepcopy(_whole(family))


def answers(model: Any) -> Tensor:
    """Logits of two texts, one of them padded."""
    ids = torch.arange(5, 17).repeat(2, 1)
    ids[1] += 30
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    with torch.no_grad():
        logits: Tensor = model.eval()(input_ids=ids, attention_mask=mask).logits
    return logits


def narrowed(model: Any, kept: Kept) -> Any:
    """The model with only the kept heads and neurons."""
    heads, neurons = kept
    for index, layer in enumerate(layers_of(model)):
        narrow_heads(model, layer, heads[index])
        for part, stays in zip(feed_forwards_of(model), neurons[index], strict=False):
            narrow_feed_forward(layer, part, torch.tensor(stays))
    return model


def zeroed(model: Any, kept: Kept) -> Any:
    """The model as it was, with what is not kept multiplied by zero where it is read."""
    heads, neurons = kept
    family = family_of(model.config.model_type)
    with torch.no_grad():
        for index, layer in enumerate(layers_of(model)):
            output = linear_at(layer, family.attention_output).weight  # (H, A · D)
            gone = [head for head in range(HEADS) if head not in heads[index]]
            output.view(output.shape[0], HEADS, -1)[:, gone] = 0
            for part, stays in zip(feed_forwards_of(model), neurons[index], strict=False):
                down = linear_at(layer, part.down).weight  # (H, F)
                down[:, [neuron for neuron in range(NEURONS) if neuron not in stays]] = 0
    return model


@pytest.mark.parametrize("family", FAMILY_NAMES)
@few
@given(kept=kept_sets)
def test_narrow_equals_zeroing(family: str, kept: Kept) -> None:
    torch.testing.assert_close(answers(narrowed(whole(family), kept)), answers(zeroed(whole(family), kept)),
                               rtol=0, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_one_head_and_one_neuron_matter(family: str) -> None:
    """The test above can fail: every head and every feed-forward moves the logits."""
    every = ([list(range(HEADS))] * LAYERS, [[list(range(NEURONS))] * 2] * LAYERS)
    before = answers(whole(family))
    torch.testing.assert_close(answers(narrowed(whole(family), every)), before, rtol=0, atol=0)
    for layer in range(LAYERS):
        fewer_heads = [*every[0]]
        fewer_heads[layer] = [0, 1, 3]
        assert (answers(narrowed(whole(family), (fewer_heads, every[1]))) - before).abs().max() > 1e-4
        for part in range(len(feed_forwards_of(whole(family)))):
            fewer = [[*parts] for parts in every[1]]
            fewer[layer][part] = list(range(NEURONS // 2))
            assert (answers(narrowed(whole(family), (every[0], fewer))) - before).abs().max() > 1e-4


@pytest.mark.parametrize("family", FAMILY_NAMES)
@few
@given(kept=kept_sets)
def test_narrow_counts(family: str, kept: Kept) -> None:
    model = narrowed(whole(family), kept)
    names = family_of(family)
    for layer, heads, neurons in zip(layers_of(model), *kept, strict=True):
        width = linear_at(layer, names.query).out_features
        assert heads_of(model, layer) == len(heads)
        assert width == len(heads) * (linear_at(layers_of(_whole(family))[0], names.query).out_features // HEADS)
        assert linear_at(layer, names.attention_output).in_features == width
        for part, stays in zip(feed_forwards_of(model), neurons, strict=False):
            up, down = linear_at(layer, part.up), linear_at(layer, part.down)
            assert up.out_features == len(up.bias) == down.in_features == len(stays)


@pytest.mark.parametrize("family", FAMILY_NAMES)
@settings(few, max_examples=4)
@given(kept=kept_sets)
def test_pruned_checkpoint_reloads(family: str, kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("pruned")
    model = narrowed(whole(family), kept)
    params = save_classifier(model, folder, checkpoint(family))
    assert params == sum(parameter.numel() for parameter in model.parameters())
    assert torch.equal(answers(load_classifier(folder)), answers(model))


@pytest.mark.parametrize("family", FAMILY_NAMES)
@settings(few, max_examples=3)
@given(first=kept_sets, second=kept_sets)
def test_pruned_checkpoint_can_be_pruned_again(
    family: str, first: Kept, second: Kept, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pruned")
    save_classifier(narrowed(whole(family), first), folder, checkpoint(family))
    again = load_classifier(folder)
    chosen = both(first, second)
    narrowed(again, chosen)
    save_classifier(again, folder, checkpoint(family))
    assert torch.equal(answers(load_classifier(folder)), answers(again))
    as_one = composed(first, chosen)
    torch.testing.assert_close(answers(again), answers(zeroed(whole(family), as_one)), rtol=0, atol=1e-5)


def both(first: Kept, second: Kept) -> Kept:
    """`second` cut to the positions that there still are after `first`; at least the first one."""

    def fit(stays: list[int], wanted: list[int]) -> list[int]:
        return [k for k in wanted if k < len(stays)] or [0]

    heads = [fit(a, b) for a, b in zip(first[0], second[0], strict=True)]
    neurons = [[fit(a, b) for a, b in zip(x, y, strict=True)] for x, y in zip(first[1], second[1], strict=True)]
    return heads, neurons


def composed(first: Kept, second: Kept) -> Kept:
    """Original positions of what stays after both."""
    heads = [[a[k] for k in b] for a, b in zip(first[0], second[0], strict=True)]
    neurons = [[[a[k] for k in b] for a, b in zip(x, y, strict=True)] for x, y in zip(first[1], second[1], strict=True)]
    return heads, neurons


@pytest.mark.parametrize("family", FAMILY_NAMES)
@settings(few, max_examples=3)
@given(stays=st.lists(some_of(NEURONS).filter(lambda kept: len(kept) >= 8).map(lambda kept: kept[:8]), min_size=2,
                      max_size=2))  # fmt: skip
def test_uniform_widths_need_only_transformers(
    family: str, stays: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Layers that keep different neurons, but as many, are a plain Hugging Face model of that width."""
    folder = tmp_path_factory.mktemp("uniform")
    model = whole(family)
    for layer, kept in zip(layers_of(model), stays, strict=True):
        for part in feed_forwards_of(model):
            narrow_feed_forward(layer, part, torch.tensor(kept))
    save_classifier(model, folder, checkpoint(family))
    plain, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not hasattr(plain.config, "edgetf")
    assert getattr(plain.config, family_of(family).intermediate_size) == 8
    assert torch.equal(answers(plain), answers(model))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_head_pruned_checkpoint_keeps_its_weights_under_a_new_head(family: str, tmp_path: Path) -> None:
    """A pruned checkpoint can be the teacher of a fine-tuning; its encoder is not made anew in silence."""
    kept: Kept = ([[0, 2], [1, 3]], [[list(range(8))] * 2] * LAYERS)
    model = narrowed(whole(family), kept)
    save_classifier(model, tmp_path, checkpoint(family))
    again = load_classifier(tmp_path, ["money", "sport", "weather"])
    assert torch.equal(answers(again), answers(model))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_gradients_reach_what_is_left(family: str) -> None:
    kept: Kept = ([[0, 2], [1]], [[[0, 5, 9]] * 2] * LAYERS)
    model = narrowed(whole(family), kept)
    ids = torch.arange(5, 17).repeat(2, 1)
    model(input_ids=ids).logits.sum().backward()
    for layer in layers_of(model):
        for part in feed_forwards_of(model):
            assert linear_at(layer, part.up).weight.grad is not None
            assert linear_at(layer, part.down).weight.grad is not None
