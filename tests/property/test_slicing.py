"""Removing heads, neurons, hidden width, words and positions equals zeroing them, and stays so on disk."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import FAMILY_NAMES, LABELS, MAX_TOKENS, tiny_classifier, tiny_config
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from edgetf.models.checkpoint import load_classifier, read_config, save_classifier
from edgetf.models.families import family_of
from edgetf.models.first_token import first_token_only
from edgetf.models.modules import BiasOnly, FactorizedEmbedding, NoAttention
from edgetf.models.shapes import cost_of
from edgetf.models.slicing import (
    factorize_words,
    feed_forwards_of,
    heads_of,
    keep_positions,
    keep_words,
    layers_of,
    linear_at,
    model_shape,
    narrow_feed_forward,
    narrow_heads,
    narrow_hidden,
    word_table,
)
from edgetf.models.vocabulary import renumbered_ids

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


# ---- every kind of narrowing ----

HIDDEN = 32
VOCABULARY: int = tiny_config("bert", LABELS).vocab_size
SPECIALS = 5  # the first ids, which a vocabulary never loses
NORMED = "mobilebert, layer norm"
VARIANTS = (*FAMILY_NAMES, NORMED)  # MobileBERT's own norms do not look at the other dimensions
HEAD_DENSE = ("bert.pooler.dense", "classifier.dense", "pre_classifier", "mobilebert.pooler.dense")


@dataclass(frozen=True)
class Stays:
    """What stays of a model, as positions; None: all. Heads and neurons are those of each layer (and feed-forward)."""

    heads: Sequence[Sequence[int]] | None = None
    neurons: Sequence[Sequence[Sequence[int]]] | None = None
    hidden: Sequence[int] | None = None
    words: Sequence[int] | None = None
    tokens: int | None = None


def any_of(count: int) -> st.SearchStrategy[list[int]]:
    """A set of positions, ascending; often none."""
    return st.one_of(st.just([]), some_of(count))


def a_layer_each(kept: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(kept, min_size=LAYERS, max_size=LAYERS)


KINDS: dict[str, st.SearchStrategy[Any]] = {
    "heads": a_layer_each(any_of(HEADS)),
    "neurons": a_layer_each(st.lists(any_of(NEURONS), min_size=2, max_size=2)),
    "hidden": some_of(HIDDEN),
    "words": st.sets(st.integers(SPECIALS, VOCABULARY - 1), min_size=2).map(
        lambda kept: [*range(SPECIALS), *sorted(kept)]
    ),
    "tokens": st.integers(2, MAX_TOKENS),
}
CHOSEN: dict[str, st.SearchStrategy[Stays]] = {
    **{kind: st.builds(Stays, **{kind: kept}) for kind, kept in KINDS.items()},
    "all": st.builds(Stays, **KINDS),
}
every_kind = pytest.mark.parametrize("kind", CHOSEN)
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@cache
def variant_checkpoint(variant: str) -> Path:
    if variant != NORMED:
        return checkpoint(variant)
    folder = Path(shutil.copytree(checkpoint("mobilebert"), Path(mkdtemp(prefix="tiny-normed-")) / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "normalization_type": "layer_norm"}))
    return folder


@cache
def _variant(variant: str) -> Any:
    return load_classifier(variant_checkpoint(variant))


def fresh(variant: str) -> Any:
    return copy.deepcopy(_variant(variant))


def new_ids(stays: Stays) -> dict[int, int]:
    """The new id of every word that stays."""
    return {old: new for new, old in enumerate(range(VOCABULARY) if stays.words is None else stays.words)}


def apply(model: Any, stays: Stays) -> Any:
    """The model narrowed to what stays."""
    for index, layer in enumerate(layers_of(model)):
        if stays.heads is not None:
            narrow_heads(model, layer, stays.heads[index])
        if stays.neurons is not None:
            for part, kept in zip(feed_forwards_of(model), stays.neurons[index], strict=False):
                narrow_feed_forward(layer, part, torch.tensor(kept, dtype=torch.long))
    if stays.hidden is not None:
        narrow_hidden(model, torch.tensor(stays.hidden))
    if stays.words is not None:
        keep_words(model, stays.words, renumbered_ids(model.config.to_dict(), new_ids(stays)))
    if stays.tokens is not None:
        keep_positions(model, stays.tokens)
    return model


def masked(model: Any, stays: Stays) -> Any:
    """The model as it was, with zeros where something does not stay, and norms over the dimensions that do."""
    everything = (range(HEADS),) * LAYERS, ((range(NEURONS),) * 2,) * LAYERS
    zeroed(model, (stays.heads or everything[0], stays.neurons or everything[1]))  # type: ignore[arg-type]
    family = family_of(model.config.model_type)
    with torch.no_grad():
        if stays.words is not None:
            words = model.get_submodule(family.word_embedding).weight
            words[[word for word in range(VOCABULARY) if word not in stays.words]] = 0
        if stays.tokens is not None:
            first = model.config.pad_token_id + 1 if model.config.model_type == "roberta" else 0
            model.get_submodule(family.position_embedding).weight[first + stays.tokens :] = 0
    if stays.hidden is not None:
        mask_hidden(model, torch.tensor(stays.hidden))
    return model


def mask_hidden(model: Any, kept: Tensor) -> None:
    """All that is written to the residual stream passes a norm, all but the dense layer of the head."""
    gone = torch.ones(HIDDEN).index_fill(0, kept, 0).bool()

    def norm_of_kept(norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        states = inputs[0][..., kept]
        if isinstance(norm, nn.LayerNorm):
            centred = states - states.mean(dim=-1, keepdim=True)
            states = centred / (centred.pow(2).mean(dim=-1, keepdim=True) + norm.eps).sqrt()
        made = torch.zeros_like(output)
        made[..., kept] = states * norm.weight[kept] + norm.bias[kept]
        return made

    for name, module in model.named_modules():
        if type(module).__name__ in ("LayerNorm", "NoNorm") and len(module.weight) == HIDDEN:
            module.register_forward_hook(norm_of_kept)
        elif name in HEAD_DENSE:
            module.register_forward_hook(lambda _module, _inputs, output: output.masked_fill(gone, 0))


def texts(model: Any, stays: Stays) -> tuple[Tensor, Tensor]:
    """Two texts of the words that stay, as long as they may be but 24 tokens at most, and the mask of the shorter."""
    words = [word for word in new_ids(stays) if word >= SPECIALS]
    length = min(stays.tokens or 12, 24)
    ids = torch.tensor([(words * length)[:length], (words[::-1] * length)[:length]])
    mask = torch.ones_like(ids)
    ids[1, (length + 1) // 2 :], mask[1, (length + 1) // 2 :] = model.config.pad_token_id, 0
    return ids, mask


def logits_of(model: Any, ids: Tensor, mask: Tensor, stays: Stays | None = None) -> Tensor:
    """Logits (2, C) of texts; with `stays` their ids are the new ones."""
    if stays is not None:
        of = new_ids(stays)
        ids = torch.tensor([[of[word] for word in row] for row in ids.tolist()])
    with torch.no_grad():
        logits: Tensor = model.eval()(input_ids=ids, attention_mask=mask).logits
    return logits


def weights_of(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@every_variant
@every_kind
@few
@given(data=st.data())
def test_every_kind_equals_zeroing(variant: str, kind: str, data: st.DataObject) -> None:
    """In double precision, so that nothing hides behind the order of a sum."""
    stays = data.draw(CHOSEN[kind])
    ids, mask = texts(_variant(variant), stays)
    small = logits_of(apply(fresh(variant).double(), stays), ids, mask, stays)
    wanted = logits_of(masked(fresh(variant).double(), stays), ids, mask)
    torch.testing.assert_close(small, wanted, rtol=0, atol=1e-9)
    small = logits_of(apply(fresh(variant), stays), ids, mask, stays)
    torch.testing.assert_close(small.double(), wanted, rtol=0, atol=1e-5)


@every_variant
@every_kind
@few
@given(data=st.data())
def test_every_kind_answers_from_its_first_token(variant: str, kind: str, data: st.DataObject) -> None:
    """The last attention on one token alone, whatever was removed below, in or above it."""
    stays = data.draw(CHOSEN[kind])
    ids, mask = texts(_variant(variant), stays)
    model = apply(fresh(variant).double(), stays)
    cut = first_token_only(model)
    heads = [heads_of(model, layer) for layer in layers_of(model)]
    assert (cut is model) == (variant in ("mobilebert", NORMED) or not any(heads))
    torch.testing.assert_close(logits_of(cut, ids, mask, stays), logits_of(model, ids, mask, stays), rtol=0, atol=1e-9)


@every_variant
@every_kind
@settings(few, max_examples=5)
@given(data=st.data())
def test_every_kind_reloads(
    variant: str, kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stays, folder = data.draw(CHOSEN[kind]), tmp_path_factory.mktemp("narrow")
    model = apply(fresh(variant), stays)
    shape, ids_and_mask = model_shape(model), texts(_variant(variant), stays)
    assert save_classifier(model, folder, variant_checkpoint(variant)) == weights_of(model)
    again = load_classifier(folder)
    assert model_shape(model) == model_shape(again) == shape
    assert torch.equal(logits_of(again, *ids_and_mask, stays), logits_of(model, *ids_and_mask, stays))
    for config in (read_config(folder), model.config.to_dict(), again.config.to_dict()):
        assert cost_of(config, 16).params == weights_of(again) == weights_of(model)


@every_variant
@every_kind
@settings(few, max_examples=5)
@given(data=st.data())
def test_every_kind_has_the_shape_that_was_asked_for(variant: str, kind: str, data: st.DataObject) -> None:
    stays = data.draw(CHOSEN[kind])
    model = apply(fresh(variant), stays)
    before, after = model_shape(_variant(variant)), model_shape(model)
    assert after.hidden_size == (HIDDEN if stays.hidden is None else len(stays.hidden))
    assert after.head_width == before.head_width and after.embedding_size is None
    for index, layer in enumerate(after.layers):
        assert layer.heads == (HEADS if stays.heads is None else len(stays.heads[index]))
        wanted = [NEURONS] * 2 if stays.neurons is None else [len(kept) for kept in stays.neurons[index]]
        assert list(layer.neurons) == wanted[: len(layer.neurons)]
    assert len(word_table(model)) == model.config.vocab_size == len(new_ids(stays))


@every_variant
def test_every_kind_matters(variant: str) -> None:
    """The tests above can fail: each kind moves the logits."""
    whole_texts = texts(_variant(variant), Stays())
    before = logits_of(_variant(variant), *whole_texts)
    some = {
        "heads": Stays(heads=[[], [1, 2, 3]]),
        "neurons": Stays(neurons=[[list(range(NEURONS))] * 2, [[], []]]),
        "hidden": Stays(hidden=range(1, HIDDEN)),
        "tokens": Stays(tokens=3),
    }
    for kind, stays in some.items():
        assert (logits_of(masked(fresh(variant), stays), *whole_texts) - before).abs().max() > 1e-4, kind


@every_variant
def test_what_is_empty_holds_no_weights_but_its_bias(variant: str) -> None:
    model = apply(fresh(variant), Stays(heads=[[]] * LAYERS, neurons=[[[], []]] * LAYERS))
    for layer in layers_of(model):
        assert heads_of(model, layer) == 0
        assert isinstance(layer.get_submodule(family_of(model.config.model_type).attention), NoAttention)
        for part in feed_forwards_of(model):
            assert isinstance(layer.get_submodule(part.down), BiasOnly)
            assert not list(layer.get_submodule(part.up).parameters())
    model(input_ids=torch.arange(5, 17).repeat(2, 1)).logits.sum().backward()  # it can still be trained
    assert all(parameter.grad is not None for _, parameter in model.classifier.named_parameters())


@every_variant
@settings(few, max_examples=4)
@given(first=CHOSEN["all"], data=st.data())
def test_narrowing_twice_equals_once(
    variant: str, first: Stays, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also with a checkpoint in between."""
    assert first.hidden is not None and first.words is not None
    first = replace(first, heads=None, neurons=None)  # as in test_pruned_checkpoint_can_be_pruned_again
    hidden = data.draw(some_of(len(first.hidden or ())))
    words = [*range(SPECIALS), *(k + SPECIALS for k in data.draw(some_of(len(first.words or ()) - SPECIALS)))]
    folder, second = tmp_path_factory.mktemp("twice"), Stays(hidden=hidden, words=words)
    save_classifier(apply(fresh(variant), first), folder, variant_checkpoint(variant))
    again = load_classifier(folder)
    narrow_hidden(again, torch.tensor(hidden))
    keep_words(again, words, renumbered_ids(again.config.to_dict(), new_ids(second)))
    save_classifier(again, folder, variant_checkpoint(variant))
    once = Stays(hidden=[first.hidden[k] for k in hidden], words=[first.words[k] for k in words], tokens=first.tokens)
    ids_and_mask = texts(_variant(variant), once)
    wanted = logits_of(apply(fresh(variant), once), *ids_and_mask, once)
    assert torch.equal(logits_of(load_classifier(folder), *ids_and_mask, once), wanted)


@every_variant
@pytest.mark.parametrize("heads", [1, 2, 3, 4])
def test_uniform_shapes_need_only_transformers(variant: str, heads: int, tmp_path: Path) -> None:
    """Where the heads that stay are as wide together as the hidden size, every kind ends in a plain checkpoint."""
    narrow_attention = variant not in ("mobilebert", NORMED)  # whose heads share the bottleneck, which stays
    one = sorted(torch.randperm(HIDDEN, generator=torch.Generator().manual_seed(heads))[: 8 * heads].tolist())
    stays = Stays(
        heads=[list(range(heads)), list(range(HEADS - heads, HEADS))] if narrow_attention else None,
        neurons=[[list(range(heads, heads + 24))] * 2] * LAYERS,
        hidden=one,
        words=[*range(SPECIALS), *range(20, 60, heads)],
        tokens=20,
    )
    model = apply(fresh(variant), stays)
    save_classifier(model, tmp_path, variant_checkpoint(variant))
    plain, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not hasattr(plain.config, "edgetf")
    ids_and_mask = texts(_variant(variant), stays)
    assert torch.equal(logits_of(plain, *ids_and_mask, stays), logits_of(model, *ids_and_mask, stays))
    assert torch.equal(
        logits_of(load_classifier(tmp_path), *ids_and_mask, stays), logits_of(model, *ids_and_mask, stays)
    )


@every_variant
def test_a_hidden_width_that_its_heads_do_not_divide_reloads(variant: str, tmp_path: Path) -> None:
    """25 // 3 is 8, the width of a head, but three heads of 8 are no plain model of hidden size 25."""
    stays = Stays(heads=[[0, 1, 2], [1, 2, 3]], hidden=range(25))
    model = apply(fresh(variant), stays)
    ids_and_mask = texts(_variant(variant), stays)
    save_classifier(model, tmp_path, variant_checkpoint(variant))
    again = load_classifier(tmp_path)
    assert torch.equal(logits_of(again, *ids_and_mask, stays), logits_of(model, *ids_and_mask, stays))


@every_variant
@pytest.mark.parametrize("stays", [Stays(), Stays(hidden=range(3, 20), words=range(40))], ids=["whole", "narrowed"])
@pytest.mark.parametrize("size", [4, 12, 100])
def test_factorized_words_equal_their_product(variant: str, stays: Stays, size: int, tmp_path: Path) -> None:
    model = fresh(variant)
    factorize_words(model, size)
    reference = fresh(variant)
    path = family_of(model.config.model_type).word_embedding
    words = model.get_submodule(path)
    assert isinstance(words, FactorizedEmbedding)
    with torch.no_grad():
        table = reference.get_submodule(path).weight
        best = torch.linalg.svdvals(table)[size:].pow(2).sum().sqrt()  # Eckart & Young
        assert torch.linalg.norm(words.product() - table).item() == pytest.approx(best.item(), rel=1e-3, abs=1e-4)
        table.copy_(words.product())
    apply(model, stays), apply(reference, stays)
    ids_and_mask = texts(_variant(variant), stays)
    small = logits_of(model, *ids_and_mask, stays)
    torch.testing.assert_close(small, logits_of(reference, *ids_and_mask, stays), rtol=0, atol=1e-5)
    assert model_shape(model).embedding_size == min(size, _variant(variant).get_submodule(path).embedding_dim)
    save_classifier(model, tmp_path, variant_checkpoint(variant))
    again = load_classifier(tmp_path)
    assert model_shape(again) == model_shape(model)
    assert torch.equal(logits_of(again, *ids_and_mask, stays), small)
    assert cost_of(read_config(tmp_path), 16).params == weights_of(again)


@every_variant
def test_factorized_words_lose_least_for_the_tokens_of_a_text(variant: str) -> None:
    model, reference = fresh(variant), fresh(variant)
    path = family_of(model.config.model_type).word_embedding
    table = reference.get_submodule(path).weight.detach()  # (V, H)
    counts = torch.arange(len(table)) ** 2
    factorize_words(model, 4, counts)
    scale = counts.sqrt()[:, None]
    lost = torch.linalg.norm(scale * (model.get_submodule(path).product() - table)).item()
    assert lost == pytest.approx(torch.linalg.svdvals(scale * table)[4:].pow(2).sum().sqrt().item(), rel=1e-3)
