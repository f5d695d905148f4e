"""Training under INT8 rounding: it rounds as the runtime does, helps where INT8 hurts, and leaves a plain model."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rounding import fake_activation, in_int8
from tiny import FAMILY_NAMES, random_batch, tiny_classifier, tiny_dataset, torch_logits
from torch import Tensor, nn

from edgetf.algorithms.fake_quantization import round_table, round_texts
from edgetf.config.quantization import QatConfig
from edgetf.config.recipe import Recipe
from edgetf.config.stages import FinetuneConfig
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier, save_classifier
from edgetf.models.slicing import factorize_words, layers_of, linear_at, narrow_feed_forward
from edgetf.stages import distill, finetune, qat
from edgetf.stages.context import Context
from edgetf.stages.qat import convert, prepare
from edgetf.training.batches import encode_split
from edgetf.training.teacher import infer, takes_token_types

torch.set_num_threads(1)

DATA = tiny_dataset(train=96)
every_family = pytest.mark.parametrize("family", FAMILY_NAMES)
Write = Callable[[Path], tuple[Spec, float]]
OUTLIER = 60.0


class KilledError(Exception):
    """The process is gone."""


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("EDGETF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def context_of(teacher: Artifact | None = None) -> Context:
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"source": "somewhere"},
            "data": {"source": "somewhere.csv", "max_length": 32},
            "student": {"num_hidden_layers": 2},
            "stages": [{"stage": "export", "formats": ["onnx"]}],
        }
    )
    return Context(recipe, DATA, report=lambda done, total, note: None, say=lambda remark: None, teacher=teacher)


def config_of(**settings: Any) -> QatConfig:
    plain = {"epochs": 4, "batch_size": 8, "learning_rate": 2e-3, "threads": 1, "logits": 1.0, "labels": 0.0}
    return QatConfig(**{**plain, **settings})


def sealed(folder: Path, write: Write, *parents: Artifact) -> Artifact:
    return seal(folder, stage="test", key=folder.name, parents=parents, made={}, write=write)


@dataclass(frozen=True)
class Case:
    """A teacher, and the same model with weights that INT8 cannot hold beside the others."""

    teacher: Artifact
    student: Artifact

    @property
    def context(self) -> Context:
        return context_of(self.teacher)

    def trained(self, folder: Path, by: Any, config: QatConfig | None = None) -> Artifact:
        """What distill or qat makes of the student."""
        config = config or config_of()
        extra = {"first": False} if by is distill else {}
        write = lambda out: by.run(config, self.student, self.context, out, **extra)  # noqa: E731
        return sealed(folder, write, self.student)

    def distance(self, model: Any) -> float:
        """KL divergence of the model's answers to unseen rows from the teacher's."""
        encoder = self.context.encoder(self.teacher.path, 0)
        rows = encode_split(DATA.test, encoder)
        wanted, found = (
            torch.from_numpy(infer(one, rows, encoder)).double().log_softmax(dim=1)
            for one in (load_classifier(self.teacher.path), model)
        )
        return float((wanted.exp() * (wanted - found)).sum(dim=1).mean())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    top = tmp_path_factory.mktemp("qat")
    downloaded = tiny_classifier("bert", top / "downloaded", ["x", "y"])

    def copied(out: Path) -> tuple[Spec, float]:
        return Spec("torch", WEIGHTS, copy_checkpoint(downloaded, out), details=context_of().input_details(0)), 0.0

    source = sealed(top / "0-teacher", copied)
    training = FinetuneConfig(epochs=6, batch_size=8, learning_rate=5e-3, threads=1)
    teacher = sealed(top / "1-finetune", lambda out: finetune.run(training, source, context_of(), out), source)
    return Case(teacher, with_outliers(teacher, top / "2-student", OUTLIER))


def with_outliers(teacher: Artifact, folder: Path, size: float) -> Artifact:
    """Large weights beside all others of the classifier, which add the same to every class.

    What they read is always 1, so that hardly a gradient comes to them.
    """
    model = load_classifier(teacher.path)
    with torch.no_grad():
        model.bert.pooler.dense.weight[0], model.bert.pooler.dense.bias[0] = 0, 30
        model.classifier.weight[:, 0] = size

    def write(out: Path) -> tuple[Spec, float]:
        return Spec("torch", WEIGHTS, save_classifier(model, out, teacher.path), details=teacher.spec.details), 0.0

    return sealed(folder, write, teacher)


class TestRounding:
    @pytest.mark.parametrize("shift", [-3.0, 0.0, 0.4, 5.0])
    def test_is_that_of_onnxruntime(self, shift: float) -> None:
        states = (
            torch.randn(4, 7, 16, generator=torch.Generator().manual_seed(1)) * torch.logspace(-2, 2, 4)[:, None, None]
        )
        states = states + shift
        graph = helper.make_graph(
            [
                helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
            ],
            "dynamic",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [7, 16])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 16])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        wanted = np.stack([session.run(None, {"x": text})[0] for text in states.numpy()])
        found = round_texts(states).numpy()
        steps = (states.amax((1, 2)).clamp(min=0) - states.amin((1, 2)).clamp(max=0)).numpy() / 255
        off = np.abs(found - wanted) / steps[:, None, None]
        assert (off > 0.01).mean() < 0.005  # a tie may fall to the other side, as torch multiplies where it divides
        assert np.abs(found - states.numpy()).max() > 0.2 * steps.max()

    def test_has_a_scale_for_each_text(self) -> None:
        small = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(2))
        alone, beside = round_texts(small), round_texts(torch.cat([small, 1000 * small]))[:1]
        torch.testing.assert_close(beside, alone, rtol=0, atol=0)
        assert not torch.equal(alone, small)

    @pytest.mark.parametrize("rounded", [round_texts, round_table])
    def test_lets_gradients_through(self, rounded: Callable[[Tensor], Tensor]) -> None:
        weight = torch.randn(3, 5, requires_grad=True)
        factors = torch.randn(3, 5)
        (rounded(weight) * factors).sum().backward()
        assert weight.grad is not None and torch.equal(weight.grad, factors)

    @pytest.mark.parametrize("rounded", [round_texts, round_table])
    def test_of_zeros_and_of_half_precision(self, rounded: Callable[[Tensor], Tensor]) -> None:
        assert not rounded(torch.zeros(2, 3)).any()
        assert rounded(torch.randn(2, 3).bfloat16()).dtype == torch.bfloat16


def inputs_of(model: Any) -> dict[str, Tensor]:
    batch = random_batch(3, 12, int(model.config.pad_token_id or 0))
    named = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if takes_token_types(model):
        named["token_type_ids"] = batch.token_type_ids
    return {name: torch.from_numpy(rows) for name, rows in named.items()}


def kinds(model: nn.Module) -> dict[str, str]:
    return {name: type(module).__name__ for name, module in model.named_modules()}


class TestPrepareAndConvert:
    @every_family
    def test_come_back_to_a_plain_model(self, family: str, tmp_path: Path) -> None:
        model = load_classifier(tiny_classifier(family, tmp_path))
        plain = copy.deepcopy(model)
        prepare(model)
        linears = sum(isinstance(module, nn.Linear) for module in model.modules())
        assert linears == sum(kind == "Linear" for kind in kinds(plain).values())
        assert list(kinds(model).values()).count("FakeQuantizedLinear") == linears
        assert list(model.state_dict()) == list(plain.state_dict())
        batch = random_batch(4, 12, int(model.config.pad_token_id or 0))
        rounded, exact = torch_logits(model, batch), torch_logits(plain, batch)
        assert np.array_equal(
            torch_logits(pickle.loads(pickle.dumps(model)), batch), rounded
        )  # other processes get it so
        assert 1e-5 < np.abs(rounded - exact).max() < 0.1
        model.train()
        model(**inputs_of(model)).logits.sum().backward()
        assert all(weight.grad is not None for name, weight in model.named_parameters() if name.endswith(".weight"))
        convert(model.eval())
        assert kinds(model) == kinds(plain)
        assert np.array_equal(torch_logits(model, batch), exact)
        assert model.get_input_embeddings().padding_idx == plain.get_input_embeddings().padding_idx
        assert all(type(weight) is nn.Parameter and weight.requires_grad for weight in model.parameters())

    def test_round_as_int8_does(self, tmp_path: Path) -> None:
        """Weights by row, inputs by text, tables as a whole."""
        model = load_classifier(tiny_classifier("bert", tmp_path))
        prepare(model)
        up: Any = linear_at(layers_of(model)[0], "intermediate.dense")
        states = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))
        steps = up.weight.detach().abs().amax(dim=1, keepdim=True) / 127.5
        with torch.no_grad():
            identity = torch.eye(32)[None]  # 0 and 1 are steps of its range, so that the weights come out
            weight = (up(identity)[0] - up.bias).T
            torch.testing.assert_close(weight / steps, (weight / steps).round(), rtol=0, atol=1e-3)
            assert 0.4 < ((weight - up.weight) / steps).abs().max() < 0.51
            wanted = torch.stack([fake_activation(text) for text in states]) @ weight.T + up.bias
            torch.testing.assert_close(up(states), wanted, rtol=0, atol=1e-5)
            words = model.get_input_embeddings()
            table = words(torch.arange(words.num_embeddings))
        step = float(words.weight.detach().abs().max()) / 127
        assert len(torch.unique((table / step).round())) > 50
        torch.testing.assert_close(table / step, (table / step).round(), rtol=0, atol=1e-3)

    def test_pruned_parts(self, tmp_path: Path) -> None:
        """Without neurons, with a single one, and with a factorized embedding."""
        model = load_classifier(tiny_classifier("bert", tmp_path))
        factorize_words(model, 4)
        for layer, kept in zip(layers_of(model), ([], [3]), strict=True):
            part = qat_part()
            narrow_feed_forward(layer, part, torch.tensor(kept, dtype=torch.long))
        plain = copy.deepcopy(model)
        prepare(model)
        assert np.isfinite(torch_logits(model, random_batch(3, 9, 0))).all()
        convert(model)
        assert kinds(model) == kinds(plain)


def qat_part() -> Any:
    from edgetf.models.families.bert import FAMILY

    (part,) = FAMILY.feed_forwards({})
    return part


def weights_of(artifact: Artifact) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    return load_file(artifact.path / WEIGHTS)


class TestRun:
    def test_int8_costs_less_than_after_as_much_plain_distillation(self, case: Case, tmp_path: Path) -> None:
        """Both end near the teacher in float; in INT8 only what was trained for it does."""
        hard = case.distance(in_int8(load_classifier(case.student.path)))
        assert hard > 0.1  # the outliers are planted well …
        assert case.distance(load_classifier(case.student.path)) < 0.01  # … and in float change next to nothing
        plain = load_classifier(case.trained(tmp_path / "plain", distill).path)
        rounded = load_classifier(case.trained(tmp_path / "rounded", qat).path)
        assert case.distance(plain) < 0.01
        assert case.distance(in_int8(plain)) > 0.1
        assert case.distance(in_int8(rounded)) < case.distance(in_int8(plain)) / 10
        assert rounded.classifier.weight[:, 0].min() > OUTLIER - 3  # not by taking the outlier out

    def test_gives_a_plain_checkpoint(self, case: Case, tmp_path: Path) -> None:
        made = case.trained(tmp_path / "rounded", qat, config_of(epochs=1))
        before = weights_of(case.student)
        assert {name: tensor.shape for name, tensor in weights_of(made).items()} == {
            name: tensor.shape for name, tensor in before.items()
        }
        name = "bert.encoder.layer.0.intermediate.dense.weight"
        assert len(np.unique(weights_of(made)[name][0])) == 32  # in float, not in steps
        assert made.spec.params == sum(tensor.size for tensor in before.values())
        assert kinds(load_classifier(made.path)) == kinds(load_classifier(case.student.path))
        encoder = case.context.encoder(made.path, 0)
        rows = encode_split(DATA.dev, encoder)
        score = (infer(load_classifier(made.path), rows, encoder).argmax(axis=1) == np.asarray(rows.labels)).mean()
        assert made.spec.metrics[0].value == pytest.approx(score)
        training = made.spec.details["training"]
        assert made.spec.details["qat"]["dev_score_rounded"] == training["history"][0]["dev_accuracy"]
        assert training["resumed"] == 0 and training["best_epoch"] == 1

    def test_both_scores_are_told(self, case: Case, tmp_path: Path) -> None:
        """Beside outliers this large nothing of the classifier is left in INT8, and this training changes nothing."""
        student = with_outliers(case.teacher, tmp_path / "hopeless", 1000.0)
        config = config_of(epochs=0.1, learning_rate=1e-8)
        made = replace(case, student=student).trained(tmp_path / "made", qat, config)
        assert made.spec.metrics[0].value > 0.9
        assert made.spec.details["qat"]["dev_score_rounded"] < 0.5

    def test_a_killed_run_goes_on(self, case: Case, tmp_path: Path) -> None:
        config = config_of(epochs=2, checkpoint_seconds=1e-9)
        whole = case.trained(tmp_path / "whole", qat, config)

        def dying(done: int, total: int, note: str | None) -> None:
            if note and note.startswith("loss") and done == 17:
                raise KilledError

        killed = replace(case.context, report=dying)
        with pytest.raises(KilledError):
            sealed(tmp_path / "cut", lambda out: qat.run(config, case.student, killed, out), case.student)
        assert not (tmp_path / "cut").exists()
        cut = case.trained(tmp_path / "cut", qat, config)
        assert cut.spec.details["training"]["resumed"] == 1
        assert cut.spec.details["training"]["history"] == whole.spec.details["training"]["history"]
        expected = weights_of(whole)
        assert all(np.array_equal(tensor, expected[name]) for name, tensor in weights_of(cut).items())

    @pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"freeze_embeddings": True}, {"threads": "auto"}])
    def test_with_other_settings(self, case: Case, tmp_path: Path, settings: dict[str, Any]) -> None:
        made = case.trained(tmp_path / "made", qat, config_of(epochs=1, **settings))
        words = "bert.embeddings.word_embeddings.weight"
        still = np.array_equal(weights_of(made)[words], weights_of(case.student)[words])
        assert still == ("freeze_embeddings" in settings)
        assert made.spec.metrics[0].value > 0.9

    def test_with_the_terms_of_states(self, case: Case, tmp_path: Path) -> None:
        config = config_of(epochs=0.5, relations=1.0, relation_heads=4, hidden=1.0, attention=1.0)
        made = case.trained(tmp_path / "made", qat, config)
        history = made.spec.details["training"]["history"]
        assert {"loss_relations", "loss_hidden", "loss_attention"} <= set(history[0])
