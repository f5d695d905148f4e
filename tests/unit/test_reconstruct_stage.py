"""Reconstruct, held against least squares written out in numpy on what hooks of the test's own have seen."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import FAMILY_NAMES, LABELS, accuracy, tiny_classifier, tiny_dataset
from torch import Tensor, nn

from edgetf.config.recipe import Recipe
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier
from edgetf.models.families import family_of
from edgetf.models.modules import BiasOnly, NoAttention
from edgetf.models.slicing import feed_forwards_of, layers_of, model_shape
from edgetf.stages.context import Context
from edgetf.stages.importance import HIDDEN, Unit
from edgetf.stages.reconstruct import RIDGE, reconstruct
from edgetf.stages.shrink import Kept, narrow
from edgetf.training.batches import TensorBatch, encode_split, in_order
from edgetf.training.teacher import infer, takes_token_types

torch.set_num_threads(1)

DATA = tiny_dataset(train=96, dev=48, test=48)
ROWS = 64
HEADS, NEURONS = 4, 64
Part = Literal["attention", "feed-forward"]
By = Literal["weights", "factors"]
Matrix = NDArray[np.float64]

# The projections that write to the hidden state, and the norms of the sums with it; MobileBERT has none such.
WRITES = {
    "bert": ("attention.output.dense", "output.dense"),
    "roberta": ("attention.output.dense", "output.dense"),
    "distilbert": ("attention.out_lin", "ffn.lin2"),
    "mobilebert": ("attention.output.dense", "output.dense"),
}
NORMS = {
    "bert": ("attention.output.LayerNorm", "output.LayerNorm"),
    "roberta": ("attention.output.LayerNorm", "output.LayerNorm"),
    "distilbert": ("sa_layer_norm", "output_layer_norm"),
}
every_family = pytest.mark.parametrize("family", FAMILY_NAMES)
every_part = pytest.mark.parametrize("part", ["attention", "feed-forward"])
both_ways = pytest.mark.parametrize("by", ["weights", "factors"])


@cache
def source_of(family: str) -> Artifact:
    """A sealed random checkpoint of two layers."""
    top = Path(mkdtemp(prefix=f"tiny-{family}-"))
    downloaded = tiny_classifier(family, top / "downloaded", LABELS, seed=3)

    def copied(out: Path) -> tuple[Spec, float]:
        return Spec("torch", WEIGHTS, copy_checkpoint(downloaded, out), details=context_of().input_details(0)), 0.0

    return seal(top / "source", stage="test", key="source", parents=(), made={}, write=copied)


def context_of() -> Context:
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"source": "somewhere"},
            "data": {"source": "somewhere.csv", "max_length": 32},
            "stages": [{"stage": "export", "formats": ["onnx"]}],
        }
    )
    return Context(recipe, DATA, report=lambda done, total, note: None, say=lambda remark: None)


@cache
def _whole(family: str) -> Any:
    return load_classifier(source_of(family).path)


def whole(family: str) -> Any:
    return copy.deepcopy(_whole(family))


def unit_of(family: str, layer: int, part: Part) -> Unit:
    return layer, WRITES[family][part == "feed-forward"]


def narrowed(model: Any, kept: Kept) -> Any:
    """A copy of a model with these units alone."""
    small = copy.deepcopy(model)
    with torch.no_grad():
        narrow(small, kept)
    return small


def solved(family: str, small: Any, dense: Any, kept: Kept, rows: int = ROWS, by: By = "weights") -> Any:
    """A copy of the narrow model after the stage."""
    made = copy.deepcopy(small)
    reconstruct(made, dense, kept, context_of(), source_of(family), rows, by)
    return made


def batches(family: str, rows: int = ROWS) -> list[TensorBatch]:
    """The training rows that the stage asks, spread over all of them."""
    encoder = context_of().encoder(source_of(family).path, int(_whole(family).config.pad_token_id))
    encoded = encode_split(DATA.train, encoder)
    return [batch for _, batch in in_order(encoded, encoder, [k * len(encoded) // rows for k in range(rows)])]


@dataclass(frozen=True)
class Seen:
    """At one projection, on the real tokens: what it reads (T, K), what it gives (T, H), and what it is added to."""

    inputs: Matrix
    given: Matrix
    residual: Matrix

    @property
    def sums(self) -> Matrix:
        return self.given + self.residual


def see(model: Any, family: str, layer: int, part: Part, rows: int = ROWS) -> Seen:
    """Run the model on the training rows; where there is no norm of a sum, the residual is 0."""
    at, module = int(part == "feed-forward"), layers_of(model)[layer]
    found: dict[str, Tensor] = {}
    projection = projection_at(module, WRITES[family][at])

    def of_projection(_module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        found["given"] = output[0] if isinstance(output, tuple) else output
        found["inputs"] = arguments[0] if arguments else torch.zeros(1)

    hooks = [projection.register_forward_hook(of_projection)]
    if family in NORMS:  # the feed-forward is added to the norm of the attention, that to what comes into the layer
        before = module if at == 0 else module.get_submodule(NORMS[family][0])

        def entering(_module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            found["residual"] = arguments[0] if arguments else named["hidden_states"]

        def leaving(_module: nn.Module, _arguments: tuple[Any, ...], output: Any) -> None:
            found["residual"] = output

        hooks.append(
            before.register_forward_pre_hook(entering, with_kwargs=True) if at == 0
            else before.register_forward_hook(leaving)
        )  # fmt: skip
    collected: dict[str, list[Matrix]] = {"inputs": [], "given": [], "residual": []}
    for batch in batches(family, rows):
        with torch.no_grad():
            model(**batch.inputs(takes_token_types(model)))
        shape = batch.input_ids.shape
        for name, parts in collected.items():
            tensor = found.get(name, torch.zeros(1))
            parts.append(tensor.detach().expand(*shape, -1)[batch.attention_mask.bool()].double().numpy())
    for hook in hooks:
        hook.remove()
    return Seen(*(np.concatenate(collected[name]) for name in ("inputs", "given", "residual")))


def projection_at(layer: nn.Module, path: str) -> Any:
    """The projection, or what stands there for an attention that is gone with it."""
    outer = layer.get_submodule(path.split(".")[0])
    return outer if isinstance(outer, NoAttention) else layer.get_submodule(path)


def error(seen: Seen, wanted: Seen) -> float:
    return float(np.square(seen.sums - wanted.sums).sum())


def keep(family: str, layer: int, part: Part, count: int) -> Kept:
    """The first so many units of one part."""
    return {unit_of(family, layer, part): torch.arange(count)}


def all_kept(family: str, heads: int, neurons: int) -> Kept:
    """The same number of units in every part, each feed-forward included."""
    kept: Kept = {}
    for layer in range(2):
        kept[unit_of(family, layer, "attention")] = torch.arange(heads)
        for part in feed_forwards_of(_whole(family)):
            kept[(layer, part.down)] = torch.arange(neurons)
    return kept


class TestEmptied:
    @every_family
    @every_part
    @both_ways
    @pytest.mark.parametrize("layer", [0, 1])
    def test_gives_the_mean_of_what_was_wanted(self, family: str, part: Part, by: By, layer: int) -> None:
        """Over the real tokens, so that a padded one counts for nothing."""
        dense = whole(family)
        kept = keep(family, layer, part, 0)
        small = narrowed(dense, kept)
        made = solved(family, small, dense, kept, by=by)
        target, start = see(dense, family, layer, part), see(small, family, layer, part)
        wanted = (target.sums - start.residual).mean(axis=0)
        projection = projection_at(layers_of(made)[layer], WRITES[family][part == "feed-forward"])
        assert isinstance(projection, NoAttention if (family, part) == ("distilbert", "attention") else BiasOnly)
        np.testing.assert_allclose(projection.bias.detach().numpy(), wanted, rtol=0, atol=1e-5)
        before = projection_at(layers_of(small)[layer], WRITES[family][part == "feed-forward"]).bias.detach().numpy()
        assert np.abs(before - wanted).max() > 1e-2  # it was something else

    @every_family
    def test_all_of_it(self, family: str) -> None:
        """Each part makes up for those below it: at the end the mean of every place is that of the whole model."""
        dense, kept = whole(family), all_kept(family, 0, 0)
        small = narrowed(dense, kept)
        made = solved(family, small, dense, kept)
        for layer in range(2):
            for part in ("attention", "feed-forward"):
                wanted = see(dense, family, layer, part)
                ours, before = see(made, family, layer, part), see(small, family, layer, part)
                np.testing.assert_allclose(ours.sums.mean(axis=0), wanted.sums.mean(axis=0), rtol=0, atol=1e-5)
                assert np.abs(before.sums.mean(axis=0) - wanted.sums.mean(axis=0)).max() > 1e-2


class TestClosedForm:
    """The last part of a model whose lower layer is pruned and left as it is, so that the residuals differ."""

    def case(self, family: str, part: Part, units: int, by: By, below: int | None = 1) -> tuple[Any, Any, Seen, Seen]:
        dense = whole(family)
        if below is None:  # an attention and a feed-forward that were gone before
            dense = narrowed(dense, {key: kept for key, kept in all_kept(family, 0, 0).items() if key[0] == 0})
        kept = keep(family, 1, part, units)
        low = {} if below is None else {key: ids for key, ids in all_kept(family, below, 8).items() if key[0] == 0}
        small = narrowed(dense, {**low, **kept})
        made = solved(family, small, dense, kept, by=by)
        return small, made, see(dense, family, 1, part), see(small, family, 1, part)

    @every_family
    @pytest.mark.parametrize(("part", "units"), [("attention", 2), ("feed-forward", 24)])
    @pytest.mark.parametrize("below", [1, None])
    def test_weights_and_bias(self, family: str, part: Part, units: int, below: int | None) -> None:
        """lstsq with the ridge, which pulls toward weights and bias as they were, as further rows."""
        small, made, target, start = self.case(family, part, units, "weights", below)
        old, new = (
            layers_of(model)[1].get_submodule(WRITES[family][part == "feed-forward"]) for model in (small, made)
        )
        before = np.concatenate([old.weight.detach().numpy(), old.bias.detach().numpy()[:, None]], axis=1)
        after = np.concatenate([new.weight.detach().numpy(), new.bias.detach().numpy()[:, None]], axis=1)
        inputs = np.concatenate([start.inputs, np.ones((len(start.inputs), 1))], axis=1)
        root = np.sqrt(RIDGE * np.square(inputs).sum(axis=0).mean()) * np.eye(inputs.shape[1])
        wanted, *_ = np.linalg.lstsq(
            np.concatenate([inputs, root]),
            np.concatenate([target.sums - start.residual, root @ before.T.astype(float)]),
            rcond=None,
        )
        np.testing.assert_allclose(after, wanted.T, rtol=0, atol=1e-4)
        assert np.abs(before - wanted.T).max() > 0.05
        assert np.abs(old.bias.detach().numpy() - wanted.T[:, -1]).max() > 1e-3

    @every_family
    @pytest.mark.parametrize(("part", "units"), [("attention", 2), ("feed-forward", 24)])
    def test_factors(self, family: str, part: Part, units: int) -> None:
        """One number a unit, found by lstsq over what each unit gives; the bias stays."""
        small, made, target, start = self.case(family, part, units, "factors")
        old, new = (
            layers_of(model)[1].get_submodule(WRITES[family][part == "feed-forward"]) for model in (small, made)
        )
        assert torch.equal(old.bias, new.bias)
        weight, bias = old.weight.detach().double().numpy(), old.bias.detach().double().numpy()
        width = weight.shape[1] // units
        given = np.stack([start.inputs[:, k : k + width] @ weight[:, k : k + width].T
                          for k in range(0, weight.shape[1], width)], axis=-1).reshape(-1, units)  # fmt: skip
        root = np.sqrt(RIDGE * np.square(given).sum(axis=0).mean())
        factors, *_ = np.linalg.lstsq(
            np.concatenate([given, root * np.eye(units)]),
            np.concatenate([(target.sums - start.residual - bias).reshape(-1), root * np.ones(units)]),
            rcond=None,
        )
        np.testing.assert_allclose(new.weight.detach().numpy(), weight * factors.repeat(width), rtol=0, atol=1e-4)
        assert np.abs(factors - 1).max() > 0.01


# What stays of a two-layer model: heads and neurons of the lower and of the upper layer.
SIZES = {"some": ((2, 24), (1, 8)), "uneven": ((0, 16), (3, 0)), "none": ((0, 0), (0, 0)), "a neuron": ((4, 1), (4, 1))}


def kept_of(family: str, sizes: tuple[tuple[int, int], ...]) -> Kept:
    kept: Kept = {}
    for layer, (heads, neurons) in enumerate(sizes):
        if heads < HEADS:
            kept[unit_of(family, layer, "attention")] = torch.arange(HEADS - heads, HEADS)
        for part in feed_forwards_of(_whole(family)):
            kept[(layer, part.down)] = torch.arange(0, NEURONS, 2)[:neurons]
    return kept


class TestInOrder:
    @every_family
    @both_ways
    @pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
    def test_no_part_fits_worse_than_before(self, family: str, by: By, sizes: tuple[tuple[int, int], ...]) -> None:
        """Part by part from the bottom up, which is also what all at once gives."""
        dense, kept = whole(family), kept_of(family, sizes)
        small = narrowed(dense, kept)
        step, gains = copy.deepcopy(small), 0
        for layer in range(2):
            attention, downs = unit_of(family, layer, "attention"), [(layer, p.down) for p in feed_forwards_of(dense)]
            for unit in [unit for unit in (attention, *downs) if unit in kept]:
                part: Part = "attention" if unit == attention else "feed-forward"
                measured = unit in (attention, downs[-1])  # not MobileBERT's stacked ones
                look = partial(see, family=family, layer=layer, part=part)
                before = error(look(step), look(dense)) if measured else 0.0
                step = solved(family, step, dense, {unit: kept[unit]}, by=by)
                if measured:
                    after = error(look(step), look(dense))
                    assert after <= before * (1 + 1e-5), unit
                    gains += after < 0.99 * before
        assert gains >= 2 or by == "factors"  # which have little to turn
        made = solved(family, small, dense, kept, by=by).state_dict()
        for name, tensor in step.state_dict().items():
            torch.testing.assert_close(made[name], tensor, rtol=0, atol=1e-6)

    @every_family
    def test_the_order_that_parts_are_named_in_does_not_matter(self, family: str) -> None:
        dense, kept = whole(family), kept_of(family, SIZES["some"])
        if family == "mobilebert":  # its stacked feed-forwards are named bottom first, as `choose` does
            backwards = dict(sorted(kept.items(), key=lambda item: -item[0][0]))
        else:
            backwards = dict(reversed(kept.items()))
        small = narrowed(dense, kept)
        one, other = (solved(family, small, dense, named).state_dict() for named in (kept, backwards))
        assert all(torch.equal(one[name], other[name]) for name in one)


class TestWhatIsLeftAlone:
    @every_family
    @both_ways
    def test_is_all_but_the_projections(self, family: str, by: By) -> None:
        dense, kept = whole(family), keep(family, 1, "feed-forward", 8)
        before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
        small = narrowed(dense, kept)
        made = solved(family, small, dense, kept, by=by)
        path = f"{family_of(family).layers}.1.{WRITES[family][1]}"
        start, after = small.state_dict(), made.state_dict()
        changed = {name for name in after if not torch.equal(after[name], start[name])}
        assert changed == {f"{path}.weight", *([f"{path}.bias"] if by == "weights" else [])}
        assert model_shape(made) == model_shape(small)
        assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())

    @every_family
    def test_no_hook_stays(self, family: str) -> None:
        dense, kept = whole(family), all_kept(family, 1, 8)
        small = narrowed(dense, kept)
        reconstruct(small, dense, kept, context_of(), source_of(family), ROWS)
        for module in (*small.modules(), *dense.modules()):
            assert not module._forward_hooks and not module._forward_pre_hooks

    def test_nothing_kept_out_changes_nothing(self) -> None:
        dense = whole("bert")
        made = solved("bert", dense, dense, {}).state_dict()
        assert all(torch.equal(tensor, made[name]) for name, tensor in dense.state_dict().items())

    def test_a_whole_part_stays_as_it_is(self) -> None:
        """It answers as it did already."""
        dense, kept = whole("bert"), all_kept("bert", HEADS, NEURONS)
        made = solved("bert", dense, dense, kept).state_dict()
        for name, tensor in dense.state_dict().items():
            torch.testing.assert_close(made[name], tensor, rtol=0, atol=1e-4)

    def test_a_narrower_hidden_state_is_refused(self) -> None:
        dense = whole("bert")
        with pytest.raises(ValueError, match="narrower hidden state"):
            solved("bert", dense, dense, {HIDDEN: torch.arange(8)})

    @pytest.mark.parametrize("rows", [1, 3, 10_000])
    def test_any_number_of_rows(self, rows: int) -> None:
        """Few rows move little and give numbers; more than there are are all."""
        dense, kept = whole("bert"), all_kept("bert", 1, 8)
        small = narrowed(dense, kept)
        made = solved("bert", small, dense, kept, rows)
        assert all(tensor.isfinite().all() for tensor in made.state_dict().values())
        there = min(rows, len(DATA.train))
        places = [see(model, "bert", 1, "feed-forward", there) for model in (dense, small, made)]
        assert error(places[2], places[0]) < error(places[1], places[0])


class TestTrained:
    """A model that has learned keeps more of it, on rows that nothing was solved on."""

    @pytest.fixture(scope="class", params=FAMILY_NAMES)
    def learned(self, request: pytest.FixtureRequest) -> tuple[str, Any]:
        family = request.param
        model = whole(family)
        encoder = context_of().encoder(source_of(family).path, int(model.config.pad_token_id))
        encoded = encode_split(DATA.train, encoder)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(24 if family == "mobilebert" else 12):
            order = torch.randperm(len(encoded), generator=generator).tolist()
            for start in range(0, len(order), 16):
                for _, batch in in_order(encoded, encoder, order[start : start + 16]):
                    loss = model(**batch.inputs(takes_token_types(model)), labels=batch.labels).loss
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
        return family, model.eval()

    @staticmethod
    def held_out(family: str, model: Any) -> tuple[Matrix, float]:
        """Logits and accuracy on the dev rows."""
        encoder = context_of().encoder(source_of(family).path, int(model.config.pad_token_id))
        rows = encode_split(DATA.dev, encoder)
        return infer(model, rows, encoder).astype(np.float64), accuracy(model, rows, encoder)

    @pytest.mark.parametrize(
        "sizes",
        [((1, 8), (1, 8)), ((2, 16), (2, 16)), ((0, 0), (2, 8)), ((0, 32), (4, 32)), ((4, 32), (0, 32))],
        ids=str,
    )
    def test_heavy_pruning_costs_less(self, learned: tuple[str, Any], sizes: tuple[tuple[int, int], ...]) -> None:
        family, dense = learned
        kept = kept_of(family, sizes)
        small = narrowed(dense, kept)
        made = solved(family, small, dense, kept, len(DATA.train))
        wanted, score = self.held_out(family, dense)
        (plain, plain_score), (ours, our_score) = (self.held_out(family, model) for model in (small, made))
        assert score > 0.9
        assert np.square(ours - wanted).mean() < 0.8 * np.square(plain - wanted).mean()
        if plain_score < 0.85:  # what is lost comes back; elsewhere a row more or less says nothing
            assert our_score > plain_score + 0.05
