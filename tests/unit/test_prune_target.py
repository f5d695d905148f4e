"""Pruning to a target: what the searched shape costs, in rounds, by least squares, and what a killed run finds."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import LABELS, tiny_classifier, tiny_config, tiny_dataset

from edgetf.algorithms.search import separate_losses
from edgetf.config.recipe import Recipe
from edgetf.config.stages import PruneConfig, PruneTarget
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.errors import ConfigError
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier
from edgetf.models.families import family_of
from edgetf.models.families.family import LayerShape, Shape
from edgetf.models.slicing import feed_forwards_of, heads_of, layers_of, linear_at, model_shape, neurons_of
from edgetf.stages import latency, probes, prune, target
from edgetf.stages.context import Context
from edgetf.stages.deployment import Deployment
from edgetf.stages.fit import fit
from edgetf.stages.importance import Kind, measure
from edgetf.stages.latency import LatencyTable, latency_table, widths
from edgetf.training.batches import encode_split
from edgetf.training.teacher import infer

torch.set_num_threads(1)

DATA = tiny_dataset(train=64, dev=12, test=12)
DEPLOYMENT = Deployment("onnx", "fp32", threads=1, seq_len=16)
SETTINGS: dict[str, Any] = {
    "epochs": 0, "batch_size": 8, "learning_rate": 1e-3, "threads": 1, "round_to": 4, "importance_rows": 16,
    "importance": "magnitude",
}  # fmt: skip


class Killed(BaseException):
    """Stands for a signal: no `except Exception` may swallow it."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))


def silent(done: int, total: int, note: str) -> None:
    """A report to nobody."""


def sealed(folder: Path, write: Callable[[Path], tuple[Spec, float]]) -> Artifact:
    return seal(folder, stage="test", key=folder.name, parents=(), made={}, write=write)


def quiet(remark: str) -> None:
    """A remark to nobody."""


def context_of(teacher: Artifact | None = None, say: Callable[[str], None] = quiet) -> Context:
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"source": "somewhere"},
            "data": {"source": "somewhere.csv", "max_length": 32},
            "stages": [{"stage": "export", "formats": ["onnx"]}],
        }
    )
    made = Context(recipe, DATA, report=silent, say=say)
    return made if teacher is None else made.with_teacher(teacher)


def teacher_of(family: str, top: Path) -> Artifact:
    folder = tiny_classifier(family, top / "downloaded", LABELS, seed=1)
    details = context_of().input_details(0)
    return sealed(top / "0", lambda out: (Spec("torch", WEIGHTS, copy_checkpoint(folder, out), details=details), 0.0))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return teacher_of("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def mobilebert(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return teacher_of("mobilebert", tmp_path_factory.mktemp("mobilebert"))


def pruned(
    teacher: Artifact, out: Path, after: Artifact | None = None, say: Callable[[str], None] = quiet, **settings: Any
) -> Artifact:
    """The teacher, pruned; or a member of its family that goes on `after` another one."""
    config, context = PruneConfig(**{**SETTINGS, **settings}), context_of(teacher, say)
    source, dense = (teacher, None) if after is None else (after, teacher)
    return sealed(out, lambda folder: prune.run(config, source, context, folder, DEPLOYMENT, dense))


def shape_of(artifact: Artifact) -> Shape:
    return model_shape(load_classifier(artifact.path))


def weights_of(model: Any) -> int:
    """Weights of all projections that heads and neurons belong to, counted one by one."""
    family, count = family_of(model.config.model_type), 0
    for layer in layers_of(model):
        if heads_of(model, layer):
            for path in (family.query, family.key, family.value, family.attention_output):
                count += linear_at(layer, path).weight.numel()
        for part in feed_forwards_of(model):
            if neurons_of(layer, part):
                count += linear_at(layer, part.up).weight.numel() + linear_at(layer, part.down).weight.numel()
    return count


def macs_of(model: Any) -> int:
    """Multiply-accumulates for 16 tokens: every weight once a token, and two products of heads for every pair."""
    width = model_shape(model).head_width
    heads = sum(heads_of(model, layer) for layer in layers_of(model))
    return 16 * weights_of(model) + 2 * 16 * 16 * heads * width


class TestCountedTargets:
    @pytest.mark.parametrize("family", ["bert", "mobilebert"])
    @pytest.mark.parametrize("share", [0.75, 0.5, 0.2])
    @pytest.mark.parametrize(("unit", "count"), [("params", weights_of), ("macs", macs_of)])
    def test_is_kept_and_used_up(
        self, request: pytest.FixtureRequest, tmp_path: Path, family: str, share: float, unit: str, count: Any
    ) -> None:
        teacher = request.getfixturevalue(family)
        made = pruned(teacher, tmp_path / "3", target={unit: share}, importance="fisher")
        dense, small = load_classifier(teacher.path), load_classifier(made.path)
        one_head = 0.07  # of the dense model; no more than what the smallest part that is left costs stays unused
        assert share - one_head <= count(small) / count(dense) <= share + 1e-9
        assert made.spec.details["search"]["target"] == {unit: share}

    def test_all_of_it_leaves_the_model_whole(self, bert: Artifact, tmp_path: Path) -> None:
        made = pruned(bert, tmp_path / "3", target={"params": 1.0})
        assert shape_of(made) == shape_of(bert)

    def test_what_matters_more_stays(self, bert: Artifact, tmp_path: Path) -> None:
        """One layer's parts weigh nothing, so that they go first."""
        model = load_classifier(bert.path)
        with torch.no_grad():
            for path in ("attention.output.dense", "output.dense"):
                linear_at(layers_of(model)[0], path).weight *= 1e-6
        importance = measure(model, "magnitude", context_of(bert), bert, 16)
        search = target.Search(PruneConfig(**SETTINGS, target={"params": 0.5}), model, DEPLOYMENT, silent)
        losses = {unit: separate_losses(scores.double().numpy()) for unit, scores in importance.items()}
        shape = search.shape(model, 1.0, importance, losses)
        assert shape.layers == (LayerShape(0, (0,)), LayerShape(4, (64,)))

    def test_unknown_units_are_refused(self) -> None:
        with pytest.raises(ValueError, match="give one of params, macs, speedup"):
            PruneTarget(params=0.5, macs=0.5)

    def test_a_model_of_uneven_layers_can_be_pruned_again(self, bert: Artifact, tmp_path: Path) -> None:
        """Its widths need not be among the measured ones."""
        once = pruned(bert, tmp_path / "once", target={"params": 0.55})
        again = pruned(once, tmp_path / "again", target={"params": 0.5}, round_to=24)
        assert weights_of(load_classifier(again.path)) <= 0.5 * weights_of(load_classifier(once.path))


HEADS = {count: 0.1 * count for count in range(5)}
NEURONS = {width: 0.01 * width for width in widths(64, 2)}
TABLE = LatencyTable(HEADS, NEURONS, 0.05, HEADS, NEURONS, 0.05, around=0.2)
TRUTHS: list[Callable[[float], float]] = [
    lambda predicted: 1.1 * predicted,  # the scale alone sets it right
    lambda predicted: 1.1 * predicted + 0.3,  # something that no table has
    lambda predicted: 2.5 * predicted**0.8,
]


@pytest.fixture(params=range(len(TRUTHS)), ids=["scaled", "offset", "bent"])
def timed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[list[Shape]]:
    """Milliseconds out of the table, where the truth is another; gives what was timed together."""
    calls: list[list[Shape]] = []

    def time_models(records: list[Any], deployment: Deployment) -> list[float]:
        calls.append(records)
        return [TRUTHS[request.param](TABLE.predict(shape)) for shape in records]

    monkeypatch.setattr(target, "latency_table", lambda *arguments: TABLE)
    monkeypatch.setattr(target, "write_model", lambda model, deployment, folder: model_shape(model))
    monkeypatch.setattr(target, "time_models", time_models)
    return calls


class TestSpeedup:
    @pytest.mark.parametrize("speedup", [1.25, 1.5, 2.0])
    def test_is_reached_as_it_is_measured(
        self, bert: Artifact, tmp_path: Path, timed: list[list[Shape]], speedup: float
    ) -> None:
        made = pruned(bert, tmp_path / "3", target={"speedup": speedup}, round_to=2)
        found = made.spec.details["search"]
        assert found["measured_speedup"] == pytest.approx(speedup, rel=0.031)
        assert found["measured_ms"] == pytest.approx(found["dense_ms"] / found["measured_speedup"])
        assert 2 <= len(timed) <= 4
        assert timed[-1] == [shape_of(bert), shape_of(made)]  # what was timed last is what was made

    @pytest.mark.parametrize(
        ("factors", "nearest"), [((1.2, 2.0, 3.0), 0), ((3.0, 1.2, 2.0), 1), ((0.3, 3.0, 1.05), 2)]
    )
    def test_of_scattered_timings_the_nearest_is_kept(
        self, bert: Artifact, monkeypatch: pytest.MonkeyPatch, factors: tuple[float, ...], nearest: int
    ) -> None:
        tried: list[Shape] = []

        def time_models(records: list[Any], deployment: Deployment) -> list[float]:
            if len(records) == 1:
                return [10.0]
            tried.append(records[1])
            return [10.0, 5.0 * factors[len(tried) - 1]]

        monkeypatch.setattr(target, "latency_table", lambda *arguments: TABLE)
        monkeypatch.setattr(target, "write_model", lambda model, deployment, folder: model_shape(model))
        monkeypatch.setattr(target, "time_models", time_models)
        model = load_classifier(bert.path)
        importance = measure(model, "magnitude", context_of(bert), bert, 16)
        losses = {unit: separate_losses(scores.double().numpy()) for unit, scores in importance.items()}
        search = target.Search(
            PruneConfig(**{**SETTINGS, "round_to": 2}, target={"speedup": 2.0}), model, DEPLOYMENT, silent
        )
        assert search.shape(model, 1.0, importance, losses) == tried[nearest]
        assert search.found["measured_speedup"] == pytest.approx(2 / factors[nearest])
        said = search.remark()
        if abs(1 / factors[nearest] - 1) > 0.1:
            assert said is not None and f"wanted 2, measured {2 / factors[nearest]:.2f}" in said
        else:
            assert said is None

    def test_all_the_time_there_is_leaves_the_model_whole(
        self, bert: Artifact, tmp_path: Path, timed: list[list[Shape]]
    ) -> None:
        made = pruned(bert, tmp_path / "3", target={"speedup": 1.0}, round_to=2)
        assert shape_of(made) == shape_of(bert)

    def test_that_no_model_reaches_is_refused(self, bert: Artifact, tmp_path: Path, timed: list[list[Shape]]) -> None:
        with pytest.raises(ConfigError, match=r"prune\.target: got .*100"):
            pruned(bert, tmp_path / "3", target={"speedup": 100.0}, round_to=2)

    @pytest.mark.parametrize("speedup", [1.5, 100.0], ids=["reached", "refused"])
    def test_leaves_no_timed_files_behind(
        self, bert: Artifact, tmp_path: Path, timed: list[list[Shape]], monkeypatch: pytest.MonkeyPatch, speedup: float
    ) -> None:
        trials = tmp_path / "trials"
        trials.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(trials))
        with contextlib.suppress(ConfigError):
            pruned(bert, tmp_path / "3", target={"speedup": speedup}, round_to=2)
        assert timed
        assert not list(trials.iterdir())


class TestFamily:
    """Each member goes on from the one before, and its target is of the model before all pruning."""

    def test_counts_from_the_dense_model(self, bert: Artifact, tmp_path: Path) -> None:
        large = pruned(bert, tmp_path / "large", target={"params": 0.5})
        small = pruned(bert, tmp_path / "small", after=large, target={"params": 0.25})
        whole, one, other = (weights_of(load_classifier(artifact.path)) for artifact in (bert, large, small))
        assert one <= 0.5 * whole
        assert 0.25 - 0.07 <= other / whole <= 0.25
        assert small.spec.details["before"] == large.spec.details["before"]
        for wide, narrow in zip(shape_of(large).layers, shape_of(small).layers, strict=True):
            assert narrow.heads <= wide.heads and narrow.neurons <= wide.neurons

    def test_keeps_what_the_member_before_has_learned(self, bert: Artifact, tmp_path: Path) -> None:
        large = pruned(bert, tmp_path / "large", target={"params": 0.5}, epochs=1)
        said: list[str] = []
        same = pruned(bert, tmp_path / "same", after=large, say=said.append, target={"params": 0.5})
        assert said == ["prune: nothing was removed for {'params': 0.5}: the member before costs no more already"]
        ours, theirs = (load_classifier(artifact.path).state_dict() for artifact in (same, large))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())

    def test_is_timed_against_the_dense_model(self, bert: Artifact, tmp_path: Path, timed: list[list[Shape]]) -> None:
        large = pruned(bert, tmp_path / "large", target={"speedup": 1.25}, round_to=2)
        small = pruned(bert, tmp_path / "small", after=large, target={"speedup": 1.6}, round_to=2)
        found = small.spec.details["search"]
        assert found["dense_ms"] == large.spec.details["search"]["dense_ms"]
        assert found["measured_speedup"] == pytest.approx(1.6, rel=0.031)
        assert timed[-1] == [shape_of(bert), shape_of(small)]

    def test_goes_its_rounds_from_the_member_before(
        self, bert: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        large = pruned(bert, tmp_path / "large", target={"params": 0.64})
        shapes = watch(monkeypatch)
        pruned(bert, tmp_path / "small", after=large, target={"params": 0.16}, epochs=1, rounds=2)
        dense = weights_of(load_classifier(bert.path))
        assert parts(shapes[0]) / dense == pytest.approx(0.32, abs=0.03)
        assert parts(shapes[1]) / dense == pytest.approx(0.16, abs=0.03)


def parts(shape: Shape) -> int:
    """The weights of a tiny model's heads and neurons."""
    heads = sum(layer.heads for layer in shape.layers)
    return heads * 8 * 4 * 32 + sum(sum(layer.neurons) for layer in shape.layers) * 2 * 32


class TestRounds:
    def test_each_leaves_a_narrower_model(
        self, bert: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shapes = watch(monkeypatch)
        made = pruned(bert, tmp_path / "3", epochs=1, rounds=2, ffn_ratio=0.5, head_ratio=0.5)
        assert [shape.layers for shape in shapes] == [(LayerShape(3, (48,)),) * 2, (LayerShape(2, (32,)),) * 2]
        assert shape_of(made) == shapes[-1]
        assert not (made.path / "checkpoint").exists()
        assert made.spec.details["before"]["layers"][0]["neurons"] == [64]

    def test_by_the_cubic_schedule_the_first_takes_most(
        self, bert: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shapes = watch(monkeypatch)
        made = pruned(bert, tmp_path / "3", epochs=1, rounds=2, schedule="cubic", ffn_ratio=0.5)
        assert [shape.layers[0].neurons for shape in shapes] == [(36,), (32,)]  # 7/8 and all of the half
        assert shape_of(made) == shapes[-1]

    def test_each_goes_its_share_of_the_way(
        self, bert: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shapes = watch(monkeypatch)
        pruned(bert, tmp_path / "3", epochs=1, rounds=2, target={"params": 0.25})
        dense = weights_of(load_classifier(bert.path))
        assert parts(shapes[0]) / dense == pytest.approx(0.5, abs=0.03)
        assert parts(shapes[1]) / dense == pytest.approx(0.25, abs=0.02)

    @pytest.mark.parametrize(
        "settings", [{"ffn_ratio": 0.5}, {"target": {"params": 0.5}, "reconstruct": True}], ids=str
    )
    def test_a_killed_run_goes_on(
        self, bert: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
    ) -> None:
        wanted = pruned(bert, tmp_path / "whole", epochs=1, rounds=2, **settings)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            watch(patched, kill=2)
            pruned(bert, tmp_path / "cut", epochs=1, rounds=2, **settings)
        shapes = watch(monkeypatch)
        made = pruned(bert, tmp_path / "cut", epochs=1, rounds=2, **settings)
        assert shapes == [shape_of(wanted)]  # one training, of the second round
        ours, theirs = (load_classifier(artifact.path).state_dict() for artifact in (made, wanted))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
        for name in ("before", "after", "search"):
            assert made.spec.details.get(name) == wanted.spec.details.get(name)

    def test_without_training(self, bert: Artifact, tmp_path: Path) -> None:
        made = pruned(bert, tmp_path / "3", rounds=3, ffn_ratio=0.75)
        assert [layer.neurons for layer in shape_of(made).layers] == [(16,)] * 2


def watch(monkeypatch: pytest.MonkeyPatch, kill: int | None = None) -> list[Shape]:
    """The shape of every model that is trained; the training of this number is killed."""
    shapes: list[Shape] = []

    def watched(model: Any, *arguments: Any, **named: Any) -> Any:
        shapes.append(model_shape(model))
        if len(shapes) == kill:
            raise Killed
        return fit(model, *arguments, **named)

    monkeypatch.setattr(prune, "fit", watched)
    return shapes


class TestReconstruct:
    @pytest.mark.parametrize("family", ["bert", "mobilebert"])
    @pytest.mark.parametrize(
        "settings",
        [{"ffn_ratio": 0.5, "head_ratio": 0.5}, {"ffn_ratio": 0.75}, {"target": {"params": 0.4}}],
        ids=str,
    )
    def test_answers_are_nearer(
        self, request: pytest.FixtureRequest, tmp_path: Path, family: str, settings: dict[str, Any]
    ) -> None:
        teacher = request.getfixturevalue(family)
        settings = {**settings, "importance_rows": 64}
        plain = pruned(teacher, tmp_path / "plain", **settings)
        solved = pruned(teacher, tmp_path / "solved", reconstruct=True, **settings)
        assert shape_of(plain) == shape_of(solved)
        wanted = logits_of(teacher)
        assert distance(logits_of(solved), wanted) < 0.8 * distance(logits_of(plain), wanted)

    def test_one_factor_a_unit_helps_and_whole_weights_help_more(self, bert: Artifact, tmp_path: Path) -> None:
        settings: dict[str, Any] = {"ffn_ratio": 0.5, "head_ratio": 0.5, "importance_rows": 64}
        ways: dict[str, dict[str, Any]] = {
            "plain": {},
            "factors": {"reconstruct": True, "reconstruct_by": "factors"},
            "weights": {"reconstruct": True},
        }
        wanted = logits_of(bert)
        found = {
            name: distance(logits_of(pruned(bert, tmp_path / name, **settings, **way)), wanted)
            for name, way in ways.items()
        }
        assert found["weights"] < found["factors"] < found["plain"]


def logits_of(artifact: Artifact) -> np.ndarray[Any, Any]:
    encoder = context_of().encoder(artifact.path, 0)
    return infer(load_classifier(artifact.path), encode_split(DATA.train, encoder), encoder)


def distance(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(np.square(one - other).mean())


class TestChoices:
    def test_rearranged_units_are_as_many(self, bert: Artifact, tmp_path: Path) -> None:
        """Which stay may change, how many may not."""
        plain, swapped = (
            pruned(bert, tmp_path / str(asked), target={"params": 0.5}, importance="fisher", rearrange=asked)
            for asked in (False, True)
        )
        assert shape_of(plain) == shape_of(swapped)
        assert plain.spec.params == swapped.spec.params

    @pytest.mark.parametrize("kind", ["random", "magnitude", "taylor", "fisher"])
    @pytest.mark.parametrize("settings", [{"ffn_ratio": 0.5, "head_ratio": 0.5}, {"target": {"macs": 0.5}}], ids=str)
    def test_every_importance_works(self, bert: Artifact, tmp_path: Path, kind: Kind, settings: dict[str, Any]) -> None:
        made = pruned(bert, tmp_path / "3", importance=kind, **settings)
        assert macs_of(load_classifier(made.path)) <= 0.51 * macs_of(load_classifier(bert.path))

    def test_random_is_another_choice_but_always_the_same(self, bert: Artifact, tmp_path: Path) -> None:
        one, other, plain = (
            load_classifier(pruned(bert, tmp_path / name, importance=kind).path).state_dict()
            for name, kind in (("one", "random"), ("other", "random"), ("plain", "magnitude"))
        )
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert not all(torch.equal(one[name], plain[name]) for name in one)

    def test_no_epochs_train_nothing(self, bert: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prune, "fit", forbidden)
        made = pruned(bert, tmp_path / "3", ffn_ratio=0.5)
        assert "training" not in made.spec.details
        assert made.spec.metrics[0].name == "dev_accuracy"
        before, after = (load_classifier(artifact.path).state_dict() for artifact in (bert, made))
        same = [name for name in after if after[name].shape == before[name].shape]
        assert len(same) == len(after) - 6  # up weight and bias, and down weight, of two layers
        assert all(torch.equal(after[name], before[name]) for name in same)
        for row in after["bert.encoder.layer.0.intermediate.dense.weight"]:
            assert (before["bert.encoder.layer.0.intermediate.dense.weight"] == row).all(dim=1).any()

    def test_hidden_width_goes_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bert: Artifact) -> None:
        made = pruned(bert, tmp_path / "3", hidden_ratio=0.5, ffn_ratio=0.5, importance="taylor")
        assert shape_of(made).hidden_size == 16
        assert shape_of(made).head_width == 8


def forbidden(*arguments: Any, **named: Any) -> Any:
    raise AssertionError("this must not be called")


class TestWidths:
    @pytest.mark.parametrize(
        ("most", "multiple", "wanted"),
        [
            (64, 16, [0, 16, 32, 48, 64]),
            (64, 64, [0, 64]),
            (64, 100, [0, 64]),
            (100, 64, [0, 64, 100]),
            (1, 1, [0, 1]),
            (12, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12]),
        ],
    )
    def test_are_multiples_from_none_to_all(self, most: int, multiple: int, wanted: list[int]) -> None:
        assert widths(most, multiple) == wanted

    @pytest.mark.parametrize(("most", "multiple"), [(3072, 64), (3072, 8), (1000, 7), (512, 1)])
    def test_grow_but_not_by_too_little(self, most: int, multiple: int) -> None:
        found = widths(most, multiple)
        assert found[0] == 0 and found[-1] == most
        assert all(width % multiple == 0 for width in found[:-1])
        inner = found[1:-1]
        assert all(b >= a * latency.GROWTH for a, b in zip(inner, inner[1:], strict=False))
        assert all(b <= a * latency.GROWTH + multiple for a, b in zip(inner, found[2:], strict=True))


class TestLatencyTable:
    def test_predicts_the_sum_of_its_parts(self) -> None:
        shape = Shape(32, 8, (LayerShape(4, (64,)), LayerShape(0, (0,))))
        assert TABLE.predict(shape) == pytest.approx(0.2 + 2 * 0.05 + 0.4 + 0.64)

    def test_the_last_layer_with_heads_and_those_above_cost_what_they_do(self) -> None:
        cheap = LatencyTable(HEADS, NEURONS, 0.05, {2: 0.01}, {64: 0.02, 0: 0.0}, 0.0, around=0.2)
        shape = Shape(32, 8, (LayerShape(4, (64,)), LayerShape(2, (64,)), LayerShape(0, (64,))))
        cheap.last_heads[0] = 0.0
        assert cheap.predict(shape) == pytest.approx(0.2 + 0.05 + 0.4 + 0.64 + 0.01 + 0.02 + 0.02)

    @pytest.mark.slow
    def test_is_measured_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(probes, "SAMPLES", 5)
        config = {**tiny_config("bert", LABELS).to_dict(), "num_attention_heads": 2}
        notes: list[tuple[int, int]] = []
        table = latency_table(config, DEPLOYMENT, 64, lambda done, total, note: notes.append((done, total)))
        assert sorted(table.heads) == [0, 1, 2]
        assert sorted(table.neurons) == [0, 64]
        assert table.heads[0] == table.neurons[0] == 0
        assert min(*table.heads.values(), *table.neurons.values(), table.layer, table.around) >= 0
        assert table.predict(model_shape_of(config)) > 0
        assert notes == [(k, 9) for k in range(9)]
        monkeypatch.setattr(latency, "_measure", forbidden)
        assert latency_table(config, DEPLOYMENT, 64, silent) == table

    def test_of_something_else_is_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another width, length, number of threads, scheme or format."""
        config = tiny_config("bert", LABELS).to_dict()
        asked = [
            (config, DEPLOYMENT),
            ({**config, "hidden_size": 64}, DEPLOYMENT),
            (config, Deployment("onnx", "fp32", 1, 32)),
            (config, Deployment("onnx", "fp32", 2, 16)),
            (config, Deployment("onnx", "w8a8_dynamic", 1, 16)),
            (config, Deployment("tflite", "fp32", 1, 16)),
            (config, Deployment("onnx", "fp32", 1, 16, rewrite=False)),
        ]
        count = 0

        def counted(*arguments: Any) -> LatencyTable:
            nonlocal count
            count += 1
            return TABLE

        monkeypatch.setattr(latency, "_measure", counted)
        for _ in range(2):
            for one, deployment in asked:
                assert latency_table(one, deployment, 2, silent) == TABLE
            assert count == len(asked)


def model_shape_of(config: dict[str, Any]) -> Shape:
    from edgetf.models.shapes import shape_of

    return shape_of(config)
