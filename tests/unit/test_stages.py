"""The training stages through their own `run`, on tiny sealed artifacts: fine-tune, distil, prune."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FAMILY_NAMES, LABELS, tiny_classifier, tiny_dataset

from edgetf.config.recipe import Recipe
from edgetf.config.stages import DistillConfig, FinetuneConfig, PruneConfig
from edgetf.config.student import MobileBert
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.errors import ConfigError
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier
from edgetf.models.families import family_of
from edgetf.models.shapes import narrowed_layers
from edgetf.models.slicing import feed_forwards_of, heads_of, layers_of, linear_at, model_shape
from edgetf.models.students import build_student
from edgetf.stages import distill, finetune, prune
from edgetf.stages.context import Context
from edgetf.stages.deployment import Deployment
from edgetf.stages.importance import HIDDEN, Kind, measure, readers
from edgetf.stages.objective import Objective
from edgetf.stages.shrink import shrink
from edgetf.training.batches import TensorBatch, encode_split, in_order
from edgetf.training.loop import Losses
from edgetf.training.teacher import infer

torch.set_num_threads(1)

DATA = tiny_dataset()
TRAINING: dict[str, Any] = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "threads": 1}
SHORT: dict[str, Any] = {**TRAINING, "epochs": 0.25}
SMALL = MobileBert(
    architecture="mobilebert", num_hidden_layers=2, hidden_size=32, intra_bottleneck_size=16, embedding_size=16,
    intermediate_size=32,
)  # fmt: skip
DEPLOYMENT = Deployment("onnx", "fp32", threads=1, seq_len=16)
Write = Callable[[Path], tuple[Spec, float]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def sealed(folder: Path, write: Write, *parents: Artifact) -> Artifact:
    return seal(folder, stage="test", key=folder.name, parents=parents, made={}, write=write)


def context_of(student: dict[str, Any] | MobileBert | None = None) -> Context:
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"source": "somewhere"},
            "data": {"source": "somewhere.csv", "max_length": 32},
            "student": student or {"num_hidden_layers": 1},
            "stages": [{"stage": "export", "formats": ["onnx"]}],
        }
    )
    return Context(recipe, DATA, report=lambda done, total, note: None, say=lambda remark: None)


@dataclass(frozen=True)
class Trained:
    """A fine-tuned teacher of one family."""

    artifact: Artifact

    @property
    def model(self) -> Any:
        return load_classifier(self.artifact.path)

    def context(self, student: dict[str, Any] | MobileBert | None = None) -> Context:
        return context_of(student).with_teacher(self.artifact)


def finetuned(family: str, top: Path) -> Trained:
    """A random checkpoint, sealed as the pipeline does, and fine-tuned."""
    downloaded = tiny_classifier(family, top / "downloaded", ["x", "y"])
    context = context_of()

    def copy(out: Path) -> tuple[Spec, float]:
        return Spec("torch", WEIGHTS, copy_checkpoint(downloaded, out), details=context.input_details(0)), 0.0

    source = sealed(top / "0-teacher", copy)
    epochs, learning_rate = (10, 3e-3) if family == "mobilebert" else (4, 5e-3)
    config = FinetuneConfig(**{**TRAINING, "epochs": epochs, "learning_rate": learning_rate})
    torch.manual_seed(0)
    return Trained(sealed(top / "1-finetune", lambda out: finetune.run(config, source, context, out), source))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return finetuned("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module", params=FAMILY_NAMES)
def teacher(request: pytest.FixtureRequest, bert: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return bert if request.param == "bert" else finetuned(request.param, tmp_path_factory.mktemp(request.param))


def score_of(artifact: Artifact) -> float:
    """Dev accuracy of a sealed checkpoint, measured anew."""
    context = context_of()
    model = load_classifier(artifact.path)
    encoder = context.encoder(artifact.path, artifact.spec.details["pad_id"])
    rows = encode_split(DATA.dev, encoder)
    hits = infer(model, rows, encoder).argmax(axis=1) == np.asarray(rows.labels)
    return float(hits.mean())


def logits_of(artifact: Artifact) -> np.ndarray[Any, Any]:
    context = context_of()
    encoder = context.encoder(artifact.path, artifact.spec.details["pad_id"])
    return infer(load_classifier(artifact.path), encode_split(DATA.dev, encoder), encoder)


def widths_of(model: Any) -> list[tuple[int, ...]]:
    """Heads and neurons of every layer."""
    return [
        (heads_of(model, layer), *(linear_at(layer, part.up).out_features for part in feed_forwards_of(model)))
        for layer in layers_of(model)
    ]


def describes_itself(artifact: Artifact) -> None:
    """The manifest says what the checkpoint is."""
    spec = artifact.spec
    model = load_classifier(artifact.path)
    assert (spec.kind, spec.model_file) == ("torch", "model.safetensors")
    assert spec.params == sum(parameter.numel() for parameter in model.parameters())
    assert spec.details["label_names"] == list(LABELS)
    assert spec.details["pad_id"] == model.config.pad_token_id
    assert [model.config.id2label[k] for k in range(3)] == list(LABELS)
    (metric,) = spec.metrics
    assert (metric.name, metric.n) == ("dev_accuracy", 30)
    assert metric.value == pytest.approx(score_of(artifact))
    assert metric.ci95 is not None and metric.ci95[0] <= metric.value <= metric.ci95[1] + 1e-9
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in artifact.path.iterdir()}
    assert not (artifact.path / "checkpoint").exists()


class TestFinetune:
    def test_gives_a_head_that_has_learned(self, teacher: Trained) -> None:
        describes_itself(teacher.artifact)
        assert teacher.artifact.spec.metrics[0].value >= 0.9
        training = teacher.artifact.spec.details["training"]
        assert len(training["history"]) >= 4 and training["resumed"] == 0
        assert training["history"][training["best_epoch"] - 1]["dev_accuracy"] == teacher.artifact.spec.metrics[0].value

    def test_seed_fixes_the_new_head(self, bert: Trained, tmp_path: Path) -> None:
        """The same recipe gives the same weights, whatever ran before it in this process."""
        source = tiny_classifier("bert", tmp_path / "source", ["x", "y"])
        artifact = replace(bert.artifact, path=source)
        made = []
        for state in (1, 2):
            torch.manual_seed(state)
            out = tmp_path / str(state)
            made.append(sealed(out, lambda out: finetune.run(FinetuneConfig(**SHORT), artifact, context_of(), out)))
        assert np.array_equal(logits_of(made[0]), logits_of(made[1]))

    def test_a_loss_that_is_no_number_is_the_recipes_fault(self, bert: Trained, tmp_path: Path) -> None:
        config = FinetuneConfig(**{**TRAINING, "learning_rate": 0.999, "max_grad_norm": 1e30})
        source = tiny_classifier("bert", tmp_path / "source")
        tensors_of_nan(source)
        artifact = replace(bert.artifact, path=source)
        with pytest.raises(ConfigError, match=r"training: the loss became nan; lower learning_rate, got 0\.999"):
            sealed(tmp_path / "out", lambda out: finetune.run(config, artifact, context_of(), out))


def tensors_of_nan(folder: Path) -> None:
    """Spoil the head of a checkpoint."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    tensors["classifier.bias"] = torch.full_like(tensors["classifier.bias"], torch.nan)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def distilled(teacher: Trained, out: Path, student: Any = None, **settings: Any) -> Artifact:
    config = DistillConfig(**{**TRAINING, "relation_heads": 4, **settings})
    context = teacher.context(student)
    return sealed(out, lambda folder: distill.run(config, teacher.artifact, context, folder), teacher.artifact)


class TestDistill:
    def test_student_learns_from_its_teacher(self, teacher: Trained, tmp_path: Path) -> None:
        more = {"epochs": 8, "learning_rate": 3e-3} if family_name(teacher) == "mobilebert" else {}
        made = distilled(teacher, tmp_path / "2-distill", **more)
        describes_itself(made)
        assert len(layers_of(load_classifier(made.path))) == 1
        assert made.spec.params is not None and made.spec.params < (teacher.artifact.spec.params or 0)
        assert made.spec.metrics[0].value >= 0.85

    def test_student_agrees_with_the_teacher_more_than_at_first(self, bert: Trained, tmp_path: Path) -> None:
        made = distilled(bert, tmp_path / "2-distill", logits=1.0, labels=0.0)
        start = build_student(context_of().recipe.student, bert.model)
        encoder = context_of().encoder(bert.artifact.path, 0)
        before = infer(start, encode_split(DATA.dev, encoder), encoder)
        wanted = logits_of(bert.artifact)
        assert np.abs(logits_of(made) - wanted).mean() < 0.5 * np.abs(before - wanted).mean()

    def test_with_relations(self, teacher: Trained, tmp_path: Path) -> None:
        made = distilled(teacher, tmp_path / "2-distill", relations=1.0, **{**SHORT, "epochs": 1})
        history = made.spec.details["training"]["history"]
        assert {"loss_logits", "loss_labels", "loss_relations", "loss_total"} <= set(history[0])
        assert history[0]["loss_relations"] > 0

    def test_relations_come_nearer(self, bert: Trained, tmp_path: Path) -> None:
        made = distilled(bert, tmp_path / "2-distill", relations=5.0, logits=0.0, labels=0.0, epochs=4)
        losses = [row["loss_relations"] for row in made.spec.details["training"]["history"]]
        assert losses[-1] < 0.8 * losses[0]

    def test_relations_of_another_layer(self, bert: Trained, tmp_path: Path) -> None:
        made = distilled(bert, tmp_path / "2-distill", relations=1.0, relation_layer=0, **SHORT)
        assert made.spec.details["training"]["history"][0]["loss_relations"] > 0

    @pytest.mark.parametrize("layer", [2, -3])
    def test_relations_of_a_layer_that_there_is_not(self, bert: Trained, tmp_path: Path, layer: int) -> None:
        with pytest.raises(ConfigError, match=f"relation_layer: got {layer}, allowed"):
            distilled(bert, tmp_path / "2-distill", relations=1.0, relation_layer=layer, **SHORT)

    @pytest.mark.parametrize("heads", [3, 12, 64])
    def test_relation_heads_that_do_not_divide_are_refused(self, bert: Trained, tmp_path: Path, heads: int) -> None:
        with pytest.raises(ConfigError, match=f"relation_heads: got {heads}, which does not divide a width of 32"):
            distilled(bert, tmp_path / "2-distill", relations=1.0, relation_heads=heads, **SHORT)
        assert not (tmp_path / "2-distill").exists()

    def test_relation_heads_do_not_matter_without_relations(self, bert: Trained, tmp_path: Path) -> None:
        made = distilled(bert, tmp_path / "2-distill", relation_heads=12, **SHORT)
        assert "loss_relations" not in made.spec.details["training"]["history"][0]

    def test_into_a_mobilebert(self, teacher: Trained, tmp_path: Path) -> None:
        made = distilled(teacher, tmp_path / "2-distill", SMALL, relations=0.5, **{**SHORT, "epochs": 1})
        describes_itself(made)
        model = load_classifier(made.path)
        assert model.config.model_type == "mobilebert"
        assert widths_of(model) == [(4, 32, 32)] * 2

    def test_a_mobilebert_learns(self, bert: Trained, tmp_path: Path) -> None:
        made = distilled(bert, tmp_path / "2-distill", SMALL, epochs=12, learning_rate=5e-3)
        assert made.spec.metrics[0].value >= 0.6

    def test_seed_fixes_a_new_student(self, bert: Trained, tmp_path: Path) -> None:
        made = []
        for state in (1, 2):
            torch.manual_seed(state)
            made.append(distilled(bert, tmp_path / str(state), SMALL, **SHORT))
        assert np.array_equal(logits_of(made[0]), logits_of(made[1]))

    def test_teacher_does_not_move(self, bert: Trained, tmp_path: Path) -> None:
        before = logits_of(bert.artifact)
        distilled(bert, tmp_path / "2-distill", relations=1.0, freeze_embeddings=True, **SHORT)
        assert np.array_equal(logits_of(bert.artifact), before)

    def test_weights_scale_their_terms(self, bert: Trained) -> None:
        context = bert.context()
        student = build_student(context.recipe.student, bert.model).eval()
        encoder = context.encoder(bert.artifact.path, 0)
        _, batch = next(in_order(encode_split(DATA.train, encoder), encoder))
        plain = DistillConfig(logits=1, labels=1, relations=1, relation_heads=4)
        heavy = DistillConfig(logits=2, labels=3, relations=5, relation_heads=4)
        one, other = (self.terms(config, student, bert, batch) for config in (plain, heavy))
        for name, factor in (("logits", 2), ("labels", 3), ("relations", 5)):
            assert other[name].item() == pytest.approx(factor * one[name].item(), rel=1e-5)

    def terms(self, config: DistillConfig, student: Any, teacher: Trained, batch: TensorBatch) -> Losses:
        objective = Objective(config, student, teacher.artifact, teacher.context())
        found = objective.loss(objective.learner, batch, 0.5)
        objective.close()
        return found

    def test_student_is_left_without_hooks(self, bert: Trained) -> None:
        student = build_student(bert.context().recipe.student, bert.model)
        config = DistillConfig(hidden=1, attention=1, embedding=1, relations=1, relation_heads=4)
        Objective(config, student, bert.artifact, bert.context()).close()
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in student.modules())


def family_name(teacher: Trained) -> str:
    return str(teacher.model.config.model_type)


def pruned(teacher: Trained, out: Path, **settings: Any) -> Artifact:
    config = PruneConfig(**{**TRAINING, "round_to": 8, "relation_heads": 4, "importance_rows": 24, **settings})
    return sealed(out, prunes(config, teacher.artifact, teacher.context()), teacher.artifact)


def prunes(config: PruneConfig, source: Artifact, context: Context) -> Write:
    return lambda folder: prune.run(config, source, context, folder, DEPLOYMENT)


class TestPrune:
    @pytest.mark.parametrize("importance", ["taylor", "magnitude"])
    def test_layers_shrink_and_recover(self, teacher: Trained, tmp_path: Path, importance: str) -> None:
        more = {"epochs": 6, "learning_rate": 2e-3} if family_name(teacher) == "mobilebert" else {"epochs": 2}
        made = pruned(teacher, tmp_path / "3-prune", importance=importance, head_ratio=0.5, ffn_ratio=0.5, **more)
        describes_itself(made)
        model = load_classifier(made.path)
        parts = len(feed_forwards_of(model))
        assert widths_of(teacher.model) == [(4, *[64] * parts)] * 2
        assert widths_of(model) == [(2, *[32] * parts)] * 2
        assert made.spec.details["before"]["layers"] == [{"heads": 4, "neurons": [64] * parts}] * 2
        assert made.spec.details["after"]["layers"] == [{"heads": 2, "neurons": [32] * parts}] * 2
        assert made.spec.metrics[0].value >= 0.75
        removed = (teacher.artifact.spec.params or 0) - (made.spec.params or 0)
        assert removed == weights_in(teacher.model) - weights_in(model) > 0
        assert made.manifest.size_bytes < teacher.artifact.manifest.size_bytes

    def test_neurons_alone_leave_a_plain_model(self, teacher: Trained, tmp_path: Path) -> None:
        from transformers import AutoModelForSequenceClassification

        made = pruned(teacher, tmp_path / "3-prune", ffn_ratio=0.75, importance="magnitude", **SHORT)
        plain = AutoModelForSequenceClassification.from_pretrained(made.path, attn_implementation="eager").eval()
        assert getattr(plain.config, family_of(plain.config.model_type).intermediate_size) == 16
        ids = torch.arange(5, 17)[None]
        with torch.no_grad():
            theirs, ours = plain(input_ids=ids).logits, load_classifier(made.path)(input_ids=ids).logits
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)

    def test_heads_alone(self, bert: Trained, tmp_path: Path) -> None:
        made = pruned(bert, tmp_path / "3-prune", ffn_ratio=0, head_ratio=0.75, **SHORT)
        assert widths_of(load_classifier(made.path)) == [(1, 64)] * 2

    def test_no_neurons_are_asked_for_and_none_go(self, bert: Trained, tmp_path: Path) -> None:
        """Also where the width is no multiple of `round_to`."""
        made = pruned(bert, tmp_path / "3-prune", ffn_ratio=0, head_ratio=0.5, round_to=48, **SHORT)
        assert widths_of(load_classifier(made.path)) == [(2, 64)] * 2

    @pytest.mark.parametrize("importance", ["taylor", "magnitude"])
    def test_with_relations(self, bert: Trained, tmp_path: Path, importance: str) -> None:
        """The relations are those of the narrowed layers, and they train them."""
        made = pruned(bert, tmp_path / "3-prune", head_ratio=0.5, relations=1.0, importance=importance, epochs=2)
        assert widths_of(load_classifier(made.path)) == [(2, 32)] * 2
        losses = [row["loss_relations"] for row in made.spec.details["training"]["history"]]
        assert losses[0] > 0 and losses[0] != losses[1]

    def test_relation_heads_must_divide_what_is_left(self, bert: Trained, tmp_path: Path) -> None:
        """Three of four heads of width 8 are 24 wide, which 16 relation heads do not divide."""
        with pytest.raises(ConfigError, match="relation_heads: got 16, which does not divide a width of 24"):
            pruned(bert, tmp_path / "3-prune", head_ratio=0.25, relations=1.0, relation_heads=16, **SHORT)

    def test_relation_heads_that_do_not_divide_are_refused(self, bert: Trained, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="relation_heads: got 12, which does not divide a width of 32"):
            pruned(bert, tmp_path / "3-prune", relations=1.0, relation_heads=12, **SHORT)

    def test_prunes_what_distill_made(self, bert: Trained, tmp_path: Path) -> None:
        student = distilled(bert, tmp_path / "2-distill", **SHORT)
        config = PruneConfig(**TRAINING, round_to=8, head_ratio=0.5)
        made = sealed(tmp_path / "3", prunes(config, student, bert.context()), student, bert.artifact)
        describes_itself(made)
        assert widths_of(load_classifier(made.path)) == [(2, 32)]
        assert made.spec.metrics[0].value >= 0.85

    def test_prunes_what_was_pruned(self, bert: Trained, tmp_path: Path) -> None:
        once = pruned(bert, tmp_path / "3-prune", head_ratio=0.25, ffn_ratio=0.25, **SHORT)
        config = PruneConfig(**SHORT, round_to=8, head_ratio=0.3, ffn_ratio=0.5)
        made = sealed(tmp_path / "4", prunes(config, once, bert.context()), once)
        assert widths_of(load_classifier(once.path)) == [(3, 48)] * 2
        assert widths_of(load_classifier(made.path)) == [(2, 24)] * 2

    def test_a_pruned_model_can_be_the_teacher(self, bert: Trained, tmp_path: Path) -> None:
        once = Trained(pruned(bert, tmp_path / "3-prune", head_ratio=0.5, **SHORT))
        made = distilled(once, tmp_path / "student", **SHORT)
        assert widths_of(load_classifier(made.path)) == [(2, 32)]

    def test_a_pruned_model_can_be_finetuned(self, bert: Trained, tmp_path: Path) -> None:
        """Its trained encoder is what is tuned, not a random one in its place."""
        once = pruned(bert, tmp_path / "3-prune", head_ratio=0.5, epochs=2)
        config = FinetuneConfig(**{**SHORT, "learning_rate": 1e-6})
        made = sealed(tmp_path / "4", lambda out: finetune.run(config, once, context_of(), out), once)
        assert widths_of(load_classifier(made.path)) == [(2, 32)] * 2
        assert made.spec.metrics[0].value == pytest.approx(once.spec.metrics[0].value, abs=0.1)

    def test_importance_finds_the_planted_units(self, bert: Trained) -> None:
        """Neurons and heads whose output is multiplied by zero are the least important, by every measure."""
        model = bert.model
        dead_neurons, dead_head = [3, 17, 40], 2
        with torch.no_grad():
            for layer in layers_of(model):
                layer.output.dense.weight[:, dead_neurons] = 0
                layer.attention.output.dense.weight[:, 16:24] = 0
        context = bert.context()
        kinds: tuple[Kind, ...] = ("taylor", "fisher", "magnitude")
        for kind in kinds:
            scores = measure(model, kind, context, bert.artifact, 16)
            assert len(scores) == 5 and scores[HIDDEN].shape == (32,)
            for index in range(2):
                neurons, heads = scores[(index, "output.dense")], scores[(index, "attention.output.dense")]
                assert (neurons.shape, heads.shape) == ((64,), (4,))
                assert sorted(neurons.argsort()[:3].tolist()) == dead_neurons
                assert heads.argmin() == dead_head

    @pytest.mark.parametrize("kind", ["random", "magnitude", "taylor", "fisher"])
    def test_importance_leaves_the_model_as_it_was(self, bert: Trained, kind: Kind) -> None:
        model, context = bert.model, bert.context()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        measure(model, kind, context, bert.artifact, 16)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())

    def test_what_is_least_important_goes(self, bert: Trained) -> None:
        model = bert.model
        importance = {unit: torch.arange(float(count)) for unit, count in readers(model).items()}
        wanted = {
            index: linear_at(layer, "intermediate.dense").weight[32:].clone()
            for index, layer in enumerate(layers_of(model))
        }
        shrink(model, narrowed_layers(model_shape(model), 3, 32), importance)
        for index, layer in enumerate(layers_of(model)):
            assert torch.equal(linear_at(layer, "intermediate.dense").weight, wanted[index])
            assert heads_of(model, layer) == 3


def weights_in(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_stage_without_a_teacher_is_a_mistake_of_the_pipeline() -> None:
    with pytest.raises(RuntimeError, match="only after there is a teacher"):
        context_of().the_teacher()
