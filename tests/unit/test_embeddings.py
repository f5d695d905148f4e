"""Sentence embeddings: how tokens become a vector, what a student learns of it, and what is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FAMILY_NAMES, random_batch, tiny_classifier, tiny_rows, write_csv

from edgetf.algorithms.distillation import similarity_loss, vector_loss
from edgetf.config.data import DataConfig
from edgetf.config.recipe import Recipe
from edgetf.config.student import MobileBert
from edgetf.config.tasks import PoolingConfig
from edgetf.config.training import LossConfig
from edgetf.core.artifact import Spec, seal
from edgetf.core.bootstrap import draws
from edgetf.core.correlation import pearson, ranks
from edgetf.core.metrics import Metric
from edgetf.data.dataset import load_dataset
from edgetf.formats.write import write_graph
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, fingerprint_of, load_classifier, save_classifier
from edgetf.models.embedder import pool
from edgetf.models.heads import CLASSIFIER, Head
from edgetf.models.slicing import layers_of, model_shape, narrow_heads, narrow_hidden
from edgetf.models.students import build_student
from edgetf.runtime.inputs import Batch
from edgetf.runtime.ort import OrtBackend
from edgetf.stages.outputs import Tutor
from edgetf.tasks import task_of
from edgetf.tasks.embeddings import cosines, nearest, similarity_spearman
from edgetf.training.batches import TensorBatch
from edgetf.training.learner import Learner
from edgetf.training.lessons import probe_loss, teacher_terms
from edgetf.training.teacher import SoftTargets
from edgetf.validation.evaluation import Evaluation, read_evaluation, write_evaluation

TASK = task_of("sentence_embeddings")
MEAN = Head("sentence_embeddings", PoolingConfig())
FIRST = Head("sentence_embeddings", PoolingConfig(tokens="first", normalize=False))
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(40, 8))


def embedder(family: str, folder: Path, head: Head = MEAN) -> Any:
    return load_classifier(tiny_classifier(family, folder), head=head)


def vectors_of(model: Any, batch: Batch, token_types: bool = True) -> torch.Tensor:
    named = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if token_types:
        named["token_type_ids"] = batch.token_type_ids
    with torch.no_grad():
        found: torch.Tensor = model(**{name: torch.from_numpy(rows) for name, rows in named.items()}).logits
    return found


class TestPooling:
    STATES = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])

    def test_the_mean_leaves_padding_out(self) -> None:
        found = pool(self.STATES, self.MASK, PoolingConfig(normalize=False))
        torch.testing.assert_close(found[0], self.STATES[0].mean(dim=0))
        torch.testing.assert_close(found[1], self.STATES[1, :2].mean(dim=0))

    def test_the_first_token(self) -> None:
        assert torch.equal(pool(self.STATES, self.MASK, FIRST.pooling or PoolingConfig()), self.STATES[:, 0])

    def test_length_one(self) -> None:
        torch.testing.assert_close(pool(self.STATES, self.MASK, PoolingConfig()).norm(dim=1), torch.ones(2))


class TestEmbedder:
    @pytest.mark.parametrize("family", FAMILY_NAMES)
    @pytest.mark.parametrize("bare", [False, True], ids=["a classifier's", "an encoder's"])
    def test_it_is_the_plain_encoder_on_disk(self, family: str, bare: bool, tmp_path: Path) -> None:
        from transformers import AutoModel

        source = tiny_classifier(family, tmp_path / "source")
        if bare:
            AutoModel.from_pretrained(source).save_pretrained(tmp_path / "bare")
            (tmp_path / "bare" / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
            source = tmp_path / "bare"
        model, batch = load_classifier(source, head=MEAN), random_batch(3, 9, pad_id=0)
        token_types = family in {"bert", "mobilebert"}
        wanted = vectors_of(model, batch, token_types)
        assert wanted.shape == (3, 32)
        params = save_classifier(model, tmp_path / "saved", source)
        assert params == sum(weight.numel() for weight in model.parameters())
        again = load_classifier(tmp_path / "saved", head=MEAN)
        assert torch.equal(vectors_of(again, batch, token_types), wanted)
        plain = AutoModel.from_pretrained(tmp_path / "saved", attn_implementation="eager").eval()
        names = ("input_ids", "attention_mask", "token_type_ids") if token_types else ("input_ids", "attention_mask")
        named = {name: torch.from_numpy(rows) for name, rows in batch.named(names).items()}
        with torch.no_grad():
            states = plain(**named).last_hidden_state
        torch.testing.assert_close(pool(states, named["attention_mask"], PoolingConfig()), wanted)

    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_a_narrow_one_reloads(self, family: str, tmp_path: Path) -> None:
        model, batch = embedder(family, tmp_path / "source"), random_batch(3, 9, pad_id=0)
        with torch.no_grad():
            narrow_heads(model, layers_of(model)[0], [0, 2])
            narrow_hidden(model, torch.arange(0, 32, 2))
        wanted = vectors_of(model, batch, family in {"bert", "mobilebert"})
        assert wanted.shape == (3, 16)
        save_classifier(model, tmp_path / "saved", tmp_path / "source")
        again = load_classifier(tmp_path / "saved", head=MEAN)
        torch.testing.assert_close(vectors_of(again, batch, family in {"bert", "mobilebert"}), wanted)

    def test_a_mobilebert_student(self, tmp_path: Path) -> None:
        small = MobileBert(
            architecture="mobilebert", num_hidden_layers=1, hidden_size=16, intra_bottleneck_size=16, embedding_size=8,
            intermediate_size=16,
        )  # fmt: skip
        student = build_student(small, embedder("bert", tmp_path), MEAN)
        assert vectors_of(student, random_batch(2, 5, pad_id=0)).shape == (2, 16)


class TestTutor:
    def test_what_it_says_rests_on_the_pooling(self, tmp_path: Path) -> None:
        """The same files answer otherwise as a classifier, and by another pooling."""
        source = tiny_classifier("bert", tmp_path / "source")

        def write(out: Path) -> tuple[Spec, float]:
            return Spec("torch", WEIGHTS, copy_checkpoint(source, out)), 0.0

        teacher = seal(tmp_path / "0-teacher", stage="teacher", key="", parents=(), made={}, write=write)
        heads = [CLASSIFIER, MEAN, FIRST, Head("sentence_embeddings", PoolingConfig(normalize=False))]
        assert len({Tutor(teacher, head).fingerprint for head in heads}) == 4
        assert Tutor(teacher, CLASSIFIER).fingerprint == fingerprint_of(teacher)


class TestExport:
    @pytest.mark.parametrize("family", FAMILY_NAMES)
    @pytest.mark.parametrize("head", [MEAN, FIRST], ids=["mean", "first"])
    def test_the_rewritten_file_gives_the_same_vectors(self, family: str, head: Head, tmp_path: Path) -> None:
        """The last layer is cut down to its first token only where nothing but that token is read."""
        model = embedder(family, tmp_path / "source", head)
        names = write_graph(model, "onnx", tmp_path / "model.onnx", 20, (16,), rewrite=True, head=head)
        batch = random_batch(3, 9, pad_id=int(model.config.pad_token_id))
        wanted = vectors_of(model, batch, "token_type_ids" in names)
        session = OrtBackend().load(tmp_path / "model.onnx", 1)
        np.testing.assert_allclose(session.run(batch), wanted.numpy(), atol=1e-5)

    def test_the_output_has_its_name(self, tmp_path: Path) -> None:
        import onnx

        write_graph(embedder("bert", tmp_path), "onnx", tmp_path / "m.onnx", 20, (16,), rewrite=True, head=MEAN)
        assert [output.name for output in onnx.load(tmp_path / "m.onnx").graph.output] == ["embedding"]


class TestLosses:
    STUDENT = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    TEACHER = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))

    def test_what_is_equal_costs_nothing(self) -> None:
        for distance in ("cosine", "mse"):
            assert vector_loss(self.TEACHER, self.TEACHER, distance).item() == pytest.approx(0, abs=1e-6)
        assert similarity_loss(self.TEACHER, self.TEACHER).item() == pytest.approx(0, abs=1e-9)

    def test_of_vectors_of_length_one_the_square_is_twice_the_cosine(self) -> None:
        one, other = (torch.nn.functional.normalize(vectors, dim=1) for vectors in (self.STUDENT, self.TEACHER))
        assert vector_loss(one, other, "mse").item() == pytest.approx(2 * vector_loss(one, other, "cosine").item())

    def test_similarities_by_hand(self) -> None:
        total = 0.0
        ours, theirs = cosines(self.STUDENT.double().numpy()), cosines(self.TEACHER.double().numpy())
        for i in range(6):
            for j in range(6):
                total += (ours[i, j] - theirs[i, j]) ** 2 if i != j else 0.0
        assert similarity_loss(self.STUDENT, self.TEACHER).item() == pytest.approx(total / 30, rel=1e-5)

    def test_turned_vectors_have_the_same_similarities(self) -> None:
        turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3))).Q
        assert similarity_loss(3 * self.TEACHER @ turn, self.TEACHER).item() == pytest.approx(0, abs=1e-9)

    def test_a_batch_of_one_has_no_pairs(self) -> None:
        student = self.STUDENT[:1].clone().requires_grad_()
        loss = similarity_loss(student, self.TEACHER[:1])
        loss.backward()
        assert loss.item() == 0
        assert student.grad is not None and not student.grad.isnan().any()

    def test_terms_that_weigh_nothing_are_left_out(self) -> None:
        targets, where = SoftTargets(self.TEACHER.numpy(), 1.0), torch.arange(6)
        for weights, names in (((1, 0), {"logits"}), ((0, 1), {"similarities"}), ((1, 1), {"logits", "similarities"})):
            config = LossConfig(logits=weights[0], similarities=weights[1], labels=0, hidden=1)
            terms = teacher_terms("sentence_embeddings", config, self.STUDENT, self.STUDENT, targets, where)
            assert set(terms) == names

    def test_importance_is_the_sum_over_the_numbers(self) -> None:
        """The mean over random directions of a gradient's square is the squared length of the Jacobian."""
        answers = torch.zeros(4000, 8, requires_grad=True)
        probe_loss("sentence_embeddings", answers, torch.zeros(4000)).backward()
        assert answers.grad is not None
        assert answers.grad.pow(2).sum(dim=1).mean().item() == pytest.approx(8, rel=0.05)


def test_vectors_of_another_width_are_projected(tmp_path: Path) -> None:
    model = embedder("bert", tmp_path)
    learner = Learner(model, (), {"pooled": 48}, 32)

    batch = random_batch(2, 5, pad_id=0)
    tensors = {name: torch.from_numpy(rows) for name, rows in vars(batch).items()}
    rest = {name: torch.arange(2) for name in ("labels", "numbers", "positions")}
    answers, signals = learner(TensorBatch(**tensors, **rest, words=torch.empty(0, 2)))
    assert answers.shape == (2, 32)
    assert signals["pooled"].shape == (2, 48)


class TestMetrics:
    @staticmethod
    def compared(answers: np.ndarray, teacher: np.ndarray = VECTORS) -> dict[str, Metric]:
        return {metric.name: metric for metric in TASK.compare(answers, teacher, [], [])}

    def test_the_teacher_against_itself(self) -> None:
        found = self.compared(VECTORS)
        assert {name: metric.value for name, metric in found.items()} == pytest.approx(
            {"similarity_spearman": 1, "neighbor_agreement": 1, "cosine": 1}
        )
        assert all(metric.n == 40 for metric in found.values())

    def test_turned_vectors_compare_alike_and_point_elsewhere(self) -> None:
        turn = np.linalg.qr(np.random.default_rng(5).normal(size=(8, 8))).Q
        found = self.compared(VECTORS @ turn)
        assert found["similarity_spearman"].value == pytest.approx(1)
        assert found["neighbor_agreement"].value == 1
        assert (found["cosine"].value or 0) < 0.5

    def test_another_width_has_no_cosine(self) -> None:
        found = self.compared(VECTORS[:, :6])
        assert set(found) == {"similarity_spearman", "neighbor_agreement"}

    def test_noise_costs_and_the_interval_holds_the_value(self) -> None:
        noise = VECTORS + 0.4 * np.random.default_rng(1).normal(size=VECTORS.shape)
        for metric in self.compared(noise).values():
            assert metric.value is not None and metric.ci95 is not None
            assert metric.ci95[0] < metric.value < 1
            assert metric.ci95[0] <= metric.value <= metric.ci95[1] + 0.02

    def test_spearman_agrees_with_scipy(self) -> None:
        stats = pytest.importorskip("scipy.stats")
        ours, theirs = cosines(VECTORS[:, :5]), cosines(VECTORS)
        upper = np.triu_indices(40, k=1)
        wanted = stats.spearmanr(ours[upper], theirs[upper]).statistic
        assert similarity_spearman(ours, theirs).value == pytest.approx(wanted)

    def test_the_interval_is_that_of_drawn_rows(self) -> None:
        """By brute force: rows drawn one after the other, with the ranks of the whole."""
        ours, theirs = cosines(VECTORS[:12, :5]), cosines(VECTORS[:12])
        upper = np.triu_indices(12, k=1)
        x, y = np.zeros((12, 12)), np.zeros((12, 12))
        x[upper], y[upper] = ranks(ours[upper]), ranks(theirs[upper])
        x, y = x + x.T, y + y.T
        found = []
        for drawn in draws(12):
            pairs = [(i, j) for a, i in enumerate(drawn) for j in drawn[:a] if i != j]
            first, second = (np.array([matrix[pair] for pair in pairs]) for matrix in (x, y))
            found.append(pearson(first, second))
        wanted = np.percentile(found, [2.5, 97.5])
        assert similarity_spearman(ours, theirs).ci95 == pytest.approx(tuple(wanted), abs=1e-9)

    def test_nearest_is_never_the_row_itself(self) -> None:
        assert nearest(cosines(np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]))).tolist() == [1, 0, 3, 2]

    def test_floor(self) -> None:
        assert TASK.floor(VECTORS, [], []) is None
        alike = np.ones((30, 8)) + 1e-4 * np.random.default_rng(0).normal(size=(30, 8))
        assert "vectors of 30 texts are all alike" in (TASK.floor(alike, [], []) or "")

    def test_many_rows_are_thinned(self) -> None:
        many = np.random.default_rng(0).normal(size=(1500, 4))
        found = self.compared(many + 0.1, many)
        assert found["neighbor_agreement"].n == 1000
        assert found["cosine"].n == 1500


class TestRecipe:
    TREE: dict[str, Any] = {
        "name": "e", "task": "sentence_embeddings", "teacher": {"source": "t"}, "data": {"source": "d.csv"},
        "stages": [{"stage": "distill"}, {"stage": "prune", "similarities": 3}, {"stage": "export"}],
    }  # fmt: skip

    def test_what_it_weighs_unless_told(self) -> None:
        recipe = Recipe.model_validate(self.TREE)
        distill, prune, _ = recipe.stages
        assert isinstance(distill, LossConfig) and isinstance(prune, LossConfig)
        assert (distill.logits, distill.similarities, distill.labels) == (1, 1, 0)
        assert (prune.logits, prune.similarities, prune.labels) == (1, 3, 0)
        assert recipe.pooling == PoolingConfig(tokens="mean", normalize=True)
        assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"data": {"source": "d", "text_pair": "b"}}, "data.text_pair: a vector is of one text"),
            ({"stages": [{"stage": "finetune"}, {"stage": "export"}]}, "finetune: sentence_embeddings has no labels"),
            (
                {"stages": [{"stage": "export"}, {"stage": "quantize", "accuracy_drop": 0.01}]},
                "quantize.accuracy_drop: sentence_embeddings has no accuracy to lose",
            ),
            ({"stages": [{"stage": "distill", "labels": 0.3}, {"stage": "export"}]}, "distill.labels: sentence_emb"),
            ({"budget": {"accuracy_drop": 0.1}}, "budget.accuracy_drop: not measured for sentence_embeddings"),
            ({"task": "regression", "pooling": {}}, "pooling: for sentence_embeddings only"),
            (
                {"task": "regression", "stages": [{"stage": "distill", "similarities": 1}, {"stage": "export"}]},
                "distill.similarities: for sentence_embeddings only",
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, changes: dict[str, Any], message: str) -> None:
        tree = {**self.TREE, "stages": [{"stage": "export"}], **changes}
        with pytest.raises(ValueError, match=message):
            Recipe.model_validate(tree)


def test_texts_need_no_label(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in tiny_rows(30)))
    data = load_dataset(DataConfig(source=str(path)), "sentence_embeddings")
    assert (len(data.train), len(data.dev), len(data.test)) == (21, 3, 6)
    assert data.label_names == []
    labelled = load_dataset(DataConfig(source=str(write_csv(tmp_path / "a.csv", tiny_rows(30)))), "sentence_embeddings")
    assert labelled.train.texts == data.train.texts


def test_evaluation_rows_round_trip(tmp_path: Path) -> None:
    before = Evaluation([f"t{k}" for k in range(40)], None, [], VECTORS.round(6), "sentence_embeddings")
    write_evaluation(tmp_path, before)
    after = read_evaluation(tmp_path, "sentence_embeddings")
    assert np.array_equal(after.teacher_logits, before.teacher_logits)
    assert after.compare(VECTORS) == before.compare(VECTORS)
    assert after.fits(VECTORS[:, :3]) and not after.fits(VECTORS[:3])


def test_it_is_said_with_the_nearest_text() -> None:
    said = TASK.say(["a", "b", "c"], np.array([[1.0, 0], [0, 1], [1, 0.2]]), [])
    assert said[0].record == {"text": "a", "embedding": [1.0, 0.0]}
    assert said[0].line == "0.981  a  ~  c"
    (alone,) = TASK.say(["a"], np.array([[0.25, 0.5]]), [])
    assert alone.line == "[0.2500 0.5000 …] 2 numbers  a"


def test_shapes_are_those_of_the_encoder(tmp_path: Path) -> None:
    assert model_shape(embedder("bert", tmp_path)).hidden_size == 32
