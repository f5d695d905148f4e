"""The distillation engine on tiny models: each term of the loss, its schedule, its cache, and how a student starts.

Beside the losses themselves (test_losses) this holds what the engine promises around them: which layers learn from
which, when, on which rows, and that a teacher whose answers are stored is not needed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import LABELS, tiny_classifier, tiny_dataset, tiny_split
from torch import Tensor
from torch.nn import functional as F

from edgetf.config.data import AugmentConfig
from edgetf.config.recipe import Recipe
from edgetf.config.stages import DistillConfig, VocabularyConfig
from edgetf.config.student import MobileBert
from edgetf.config.training import LossConfig, Term
from edgetf.core.artifact import Artifact, Spec, seal
from edgetf.core.errors import ArtifactError, ConfigError
from edgetf.core.part import Part
from edgetf.core.places import cache_folder
from edgetf.data.dataset import Split
from edgetf.data.labels import NO_LABEL
from edgetf.models.checkpoint import WEIGHTS, copy_checkpoint, load_classifier, save_classifier
from edgetf.models.modules import FactorizedEmbedding
from edgetf.models.slicing import layers_of, linear_at, model_shape, word_table
from edgetf.models.vocabulary import count_pieces
from edgetf.runtime.encoder import Encoder
from edgetf.stages import distill, outputs, vocabulary
from edgetf.stages.context import Context
from edgetf.stages.objective import Objective
from edgetf.stages.signals import layer_pairs, wanted_signals
from edgetf.training import blocks
from edgetf.training.batches import TensorBatch, in_order
from edgetf.training.loop import Losses
from edgetf.training.taps import Taps
from edgetf.training.teacher import infer

torch.set_num_threads(1)

DATA = tiny_dataset(train=48, dev=12, test=12)
TRAINING: dict[str, Any] = {"epochs": 5, "batch_size": 8, "learning_rate": 5e-3, "threads": 1, "relation_heads": 4}
SHORT: dict[str, Any] = {**TRAINING, "epochs": 1}
SMALL = MobileBert(
    architecture="mobilebert", num_hidden_layers=2, hidden_size=32, intra_bottleneck_size=16, embedding_size=16,
    intermediate_size=32,
)  # fmt: skip
TWO_LAYERS = {"num_hidden_layers": 2}
NOTHING: dict[str, float] = {"logits": 0.0, "labels": 0.0}
STATES = {"hidden": 1.0, "attention": 1.0, "embedding": 1.0, "relations": 1.0}
ALONE: list[tuple[Term, dict[str, Any]]] = [
    ("logits", {}),
    ("logits", {"top_k": 1}),
    ("labels", {}),
    ("relations", {}),
    ("relations", {"relation_layer": 0}),
    ("hidden", {}),
    ("hidden", {"hidden_distance": "cosine"}),
    ("hidden", {"hidden_distance": "normalized", "hidden_tokens": "first"}),
    ("hidden", {"layer_map": "last"}),
    ("attention", {}),
    ("attention", {"attention_distance": "kl"}),
    ("embedding", {}),
    ("embedding", {"embedding_distance": "cosine"}),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))


def sealed(folder: Path, write: Callable[[Path], tuple[Spec, float]]) -> Artifact:
    return seal(folder, stage="test", key=folder.name, parents=(), made={}, write=write)


def context_of(teacher: Artifact | None = None, student: Any = None, **data: Any) -> Context:
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "teacher": {"source": "somewhere"},
            "data": {"source": "somewhere.csv", "max_length": 32, **data},
            "student": student or {"num_hidden_layers": 1},
            "stages": [{"stage": "export", "formats": ["onnx"]}],
        }
    )
    made = Context(recipe, DATA, report=lambda done, total, note: None, say=lambda remark: None)
    return made if teacher is None else made.with_teacher(teacher)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A random BERT of two layers: what it says is arbitrary, but it says it firmly."""
    top = tmp_path_factory.mktemp("teacher")
    return another_teacher(top, seed=1)


def another_teacher(top: Path, seed: int) -> Artifact:
    """A teacher of the same classes and tokens that says something else."""
    folder = tiny_classifier("bert", top / "downloaded", LABELS, seed=seed)
    details = context_of().input_details(0)
    return sealed(
        top / "1-finetune", lambda out: (Spec("torch", WEIGHTS, copy_checkpoint(folder, out), details=details), 0.0)
    )


def distilled(
    teacher: Artifact, out: Path, student: Any = None, context: Context | None = None, **settings: Any
) -> Artifact:
    config = DistillConfig(**{**TRAINING, **settings})
    context = context or context_of(teacher, student)
    return sealed(out, lambda folder: distill.run(config, context.tutor or teacher, context, folder))


def losses_of(artifact: Artifact, term: str) -> list[float]:
    return [epoch[f"loss_{term}"] for epoch in artifact.spec.details["training"]["history"]]


def objective_of(teacher: Artifact, student: Any, context: Context | None = None, **settings: Any) -> Objective:
    """The objective of a student, with the same projections every time."""
    torch.manual_seed(0)
    context = context or context_of(teacher)
    made = Objective(LossConfig(**{"relation_heads": 4, **settings}), student, context.tutor or teacher, context)
    made.learner.eval()
    return made


def batches_of(made: Objective) -> list[TensorBatch]:
    return [batch for _, batch in in_order(made.rows, made.encoder, batch_size=8)]


def terms_of(made: Objective, batch: TensorBatch, done: float = 0.0) -> Losses:
    return made.loss(made.learner, batch, done)


class TestTerms:
    @pytest.mark.parametrize("student", [None, SMALL], ids=["bert", "mobilebert"])
    @pytest.mark.parametrize(("term", "settings"), ALONE, ids=lambda value: str(value))
    def test_each_alone_is_learned(
        self, teacher: Artifact, tmp_path: Path, student: Any, term: Term, settings: dict[str, Any]
    ) -> None:
        more = {"epochs": 12, "learning_rate": 1e-2} if (term, student) == ("labels", SMALL) else {}
        made = distilled(teacher, tmp_path / "2-distill", student, **{**NOTHING, term: 1.0, **settings, **more})
        losses = losses_of(made, term)
        assert losses[-1] < 0.95 * losses[0]
        assert set(made.spec.details["training"]["history"][0]) == {
            "epoch", "dev_accuracy", "loss_total", f"loss_{term}"
        }  # fmt: skip

    def test_all_are_logged_one_by_one(self, teacher: Artifact, tmp_path: Path) -> None:
        made = distilled(teacher, tmp_path / "2-distill", SMALL, **{**SHORT, **STATES})
        (epoch,) = made.spec.details["training"]["history"]
        terms = {"logits", "labels", *STATES}
        assert set(epoch) == {"epoch", "dev_accuracy", "loss_total", *(f"loss_{term}" for term in terms)}
        assert epoch["loss_total"] == pytest.approx(sum(epoch[f"loss_{term}"] for term in terms), abs=1e-3)
        assert all(epoch[f"loss_{term}"] > 0 for term in terms)

    @pytest.mark.parametrize(("term", "settings"), ALONE, ids=lambda value: str(value))
    def test_parts_of_a_batch_weigh_what_is_in_them(
        self, teacher: Artifact, term: Term, settings: dict[str, Any]
    ) -> None:
        """So several processes that each take some rows come to the loss of the whole batch."""
        student = distill.start(teacher, context_of(teacher)).eval()
        made = objective_of(teacher, student, **{**NOTHING, term: 1.0, **settings})
        for batch in (batches_of(made)[0], batches_of(made)[-1]):
            batch.labels[:3] = NO_LABEL
            whole = made.counts(batch)[term]
            parts = [batch.part(k, 3) for k in range(3)]
            addends = [terms_of(made, part)[term] * made.counts(part)[term] / whole for part in parts]
            torch.testing.assert_close(torch.stack(addends).sum(), terms_of(made, batch)[term])
        made.close()

    def test_projections_are_left_behind(self, teacher: Artifact, tmp_path: Path) -> None:
        made = distilled(teacher, tmp_path / "2-distill", SMALL, **{**SHORT, **STATES})
        model = load_classifier(made.path)
        assert not any("projection" in name for name in model.state_dict())
        assert made.spec.params == sum(parameter.numel() for parameter in model.parameters())

    def test_a_copy_of_the_teacher_has_nothing_to_learn_of_attention(self, teacher: Artifact) -> None:
        """Its scores, distributions and relations are the teacher's own."""
        student = load_classifier(teacher.path)
        for distance in ("mse", "kl"):
            made = objective_of(teacher, student, attention=1.0, relations=1.0, attention_distance=distance)
            for batch in batches_of(made):
                terms = terms_of(made, batch)
                for name in ("attention", "relations", "logits"):
                    assert terms[name].item() == pytest.approx(0, abs=1e-5)
            made.close()

    def test_padding_does_not_count(self, teacher: Artifact) -> None:
        """A row says the same in a batch of longer rows as on its own."""
        student = load_classifier(tiny_classifier("bert", teacher.path.parent / "other", LABELS, seed=7))
        made = objective_of(teacher, student, **STATES)
        batch = batches_of(made)[0]
        wider = replace(
            batch,
            input_ids=F.pad(batch.input_ids, (0, 5)),
            attention_mask=F.pad(batch.attention_mask, (0, 5)),
            token_type_ids=F.pad(batch.token_type_ids, (0, 5)),
        )
        one, other = terms_of(made, batch), terms_of(made, wider)
        for name, term in one.items():
            assert other[name].item() == pytest.approx(term.item(), rel=1e-4), name


class TestSchedules:
    def test_a_factor_moves_linearly(self, teacher: Artifact) -> None:
        student = load_classifier(teacher.path)
        plain = objective_of(teacher, student, hidden=1.0)
        batch = batches_of(plain)[0]
        base = terms_of(plain, batch)
        plain.close()
        made = objective_of(teacher, student, hidden=1.0, schedules={"hidden": (1.0, 0.0), "labels": (0.0, 3.0)})
        for done, hidden, labels in ((0.0, 1.0, 0.0), (0.25, 0.75, 0.75), (0.5, 0.5, 1.5), (1.0, 0.0, 3.0)):
            terms = terms_of(made, batch, done)
            assert terms["hidden"].item() == pytest.approx(hidden * base["hidden"].item(), rel=1e-4)
            assert terms["labels"].item() == pytest.approx(labels * base["labels"].item(), rel=1e-4)
            assert terms["logits"].item() == pytest.approx(base["logits"].item(), abs=1e-6)

    def test_a_training_follows_it(self, teacher: Artifact, tmp_path: Path) -> None:
        made = distilled(teacher, tmp_path / "2", learning_rate=1e-6, schedules={"labels": (1.0, 0.0)})
        losses = losses_of(made, "labels")
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < 0.3 * losses[0]


def learning(made: Objective, done: float) -> set[str]:
    """The parts of the student that get a gradient: embeddings, head, or the number of a layer."""
    made.learner.zero_grad(set_to_none=True)
    torch.stack(list(terms_of(made, batches_of(made)[0], done).values())).sum().backward()
    student = made.learner.student
    layers = {id(p): str(k) for k, layer in enumerate(layers_of(student)) for p in layer.parameters()}
    found = set()
    for name, parameter in student.named_parameters():
        if parameter.grad is not None and bool(parameter.grad.any()):
            found.add(layers.get(id(parameter)) or ("embeddings" if "embeddings" in name else "head"))
    return found


class TestProgressive:
    @pytest.mark.parametrize("student", [TWO_LAYERS, SMALL], ids=["bert", "mobilebert"])
    @pytest.mark.parametrize("term", ["hidden", "attention"])
    def test_one_layer_after_the_other_learns_alone(self, teacher: Artifact, student: Any, term: str) -> None:
        model = distill.start(teacher, context_of(teacher, student))
        made = objective_of(teacher, model, progressive=0.5, **{term: 1.0})
        noise(model)  # a copy of the teacher would have nothing to learn
        turns = [learning(made, done) for done in (0.0, 0.2, 0.25, 0.49)]
        assert turns == [{"0"}, {"0"}, {"1"}, {"1"}]
        assert learning(made, 0.5) == {"0", "1", "embeddings", "head"}

    def test_other_terms_wait(self, teacher: Artifact) -> None:
        model = load_classifier(teacher.path)
        made = objective_of(teacher, model, progressive=0.5, **STATES)
        batch = batches_of(made)[0]
        assert set(terms_of(made, batch, 0.1)) == {"hidden", "attention"}
        assert set(terms_of(made, batch, 0.6)) == {"logits", "labels", *STATES}

    @pytest.mark.parametrize("layer_map", ["last", (None, 1)])
    def test_layers_without_a_partner_have_no_turn(self, teacher: Artifact, layer_map: Any) -> None:
        model = load_classifier(teacher.path)
        made = objective_of(teacher, model, progressive=0.5, hidden=1.0, layer_map=layer_map)
        assert [learning(made, done) for done in (0.0, 0.49)] == [{"1"}, {"1"}]

    def test_a_training_goes_through(self, teacher: Artifact, tmp_path: Path) -> None:
        made = distilled(teacher, tmp_path / "2", SMALL, hidden=1.0, attention=1.0, progressive=0.5)
        history = made.spec.details["training"]["history"]
        assert "loss_logits" not in history[0] and "loss_logits" in history[-1]
        assert history[-1]["loss_hidden"] < history[0]["loss_hidden"]


def noise(model: Any) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


class TestSignals:
    @pytest.mark.parametrize(
        ("layer_map", "student", "teacher", "wanted"),
        [
            ("uniform", 3, 6, [(0, 1), (1, 3), (2, 5)]),
            ("uniform", 1, 12, [(0, 11)]),
            ("uniform", 4, 4, [(0, 0), (1, 1), (2, 2), (3, 3)]),
            ("uniform", 4, 2, [(0, 0), (1, 0), (2, 1), (3, 1)]),
            ("last", 3, 6, [(2, 5)]),
            ((5, 0, None), 3, 6, [(0, 5), (1, 0)]),
            ((0, 0), 2, 1, [(0, 0), (1, 0)]),
        ],
    )
    def test_pairs(self, layer_map: Any, student: int, teacher: int, wanted: list[tuple[int, int]]) -> None:
        assert layer_pairs(layer_map, student, teacher) == wanted

    @pytest.mark.parametrize(
        ("layer_map", "message"),
        [
            ((0,), "layer_map: got 1 layers, allowed: the student's 2"),
            ((0, 1, 2), "layer_map: got 3 layers, allowed: the student's 2"),
            ((0, 6), "layer_map: got 6, allowed: 0 to 5"),
            ((-1, 0), "layer_map: got -1, allowed: 0 to 5"),
        ],
    )
    def test_wrong_pairs(self, layer_map: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            layer_pairs(layer_map, 2, 6)

    def test_only_what_the_terms_need(self) -> None:
        assert wanted_signals(LossConfig(), [4, 4], [4] * 4).student == ()
        wanted = wanted_signals(LossConfig(hidden=1, embedding=1), [4, 4], [4] * 4)
        assert wanted.student == ("embedding", "hidden.0", "hidden.1")
        assert wanted.teacher == ("embedding", "hidden.1", "hidden.3")

    def test_no_signal_twice(self) -> None:
        wanted = wanted_signals(LossConfig(attention=1, relations=1), [4], [4, 4])
        assert wanted.student == ("query.0", "key.0", "value.0")
        assert wanted.teacher == ("query.1", "key.1", "value.1")

    def test_layers_without_heads_have_no_attention(self) -> None:
        wanted = wanted_signals(LossConfig(attention=1, relations=1), [2, 0], [4, 4])
        assert wanted.student == ("query.0", "key.0", "value.0")
        assert wanted_signals(LossConfig(attention=1), [2, 2], [0, 4]).student == ("query.1", "key.1")

    def test_one_after_the_other_only_layers_with_something_to_learn_have_a_turn(self) -> None:
        progressive = {"attention": 1, "progressive": 0.5}
        assert wanted_signals(LossConfig(**progressive), [2, 0], [4, 4]).pairs == [(0, 0)]
        assert wanted_signals(LossConfig(**progressive, hidden=1), [2, 0], [4, 4]).pairs == [(0, 0), (1, 1)]
        with pytest.raises(ConfigError, match="progressive: no two layers that are compared have heads"):
            wanted_signals(LossConfig(**progressive), [0, 0], [4, 4])

    @pytest.mark.parametrize("layer", [2, -3])
    def test_a_relation_layer_that_there_is_not(self, layer: int) -> None:
        with pytest.raises(ConfigError, match=f"relation_layer: got {layer}, allowed: -2 to 1"):
            wanted_signals(LossConfig(relations=1, relation_layer=layer), [4], [4, 4])

    def test_relations_need_a_head(self) -> None:
        with pytest.raises(ConfigError, match="relations: the student has no attention head left"):
            wanted_signals(LossConfig(relations=1), [0, 0], [4, 4])


class TestCachedStates:
    @pytest.mark.parametrize("student", [TWO_LAYERS, SMALL], ids=["bert", "mobilebert"])
    def test_are_the_live_ones(self, teacher: Artifact, student: Any) -> None:
        model = distill.start(teacher, context_of(teacher, student)).eval()
        noise(model)
        live = objective_of(teacher, model, **STATES)
        wanted = [terms_of(live, batch) for batch in batches_of(live)]
        live.close()
        for _ in range(2):  # cold, then warm
            made = objective_of(teacher, model, cache_states=True, **STATES)
            for batch, terms in zip(batches_of(made), wanted, strict=True):
                found = terms_of(made, batch)
                assert {name: term.item() for name, term in found.items()} == pytest.approx(
                    {name: term.item() for name, term in terms.items()}, rel=1e-2, abs=1e-4
                )
            made.close()

    def test_are_the_same_in_blocks(self, teacher: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blocks of five pieces, of which somebody else wrote every third and left one behind half written."""
        model = load_classifier(teacher.path)
        whole = objective_of(teacher, model, cache_states=True, **STATES)
        wanted = [terms_of(whole, batch) for batch in batches_of(whole)]
        whole.close()
        monkeypatch.setenv("EDGETF_CACHE", f"{cache_folder()}-blocks")
        monkeypatch.setattr(blocks, "LEAST", 5)
        names, rows = whole.wanted.teacher, len(whole.rows)
        written = outputs.fill_outputs(whole.config, names, teacher, context_of(teacher), Part(3, 3))
        assert written == 2 * len(range(2, -(-rows // 5), 3))
        (folder,) = (cache_folder() / "teacher-states").iterdir()
        (folder / "block-000.f16.123.part").write_bytes(b"half")
        made = objective_of(teacher, model, cache_states=True, **STATES)
        assert len(list(folder.glob("block-???.f16"))) == -(-rows // 5)
        for batch, terms in zip(batches_of(made), wanted, strict=True):
            for name, term in terms_of(made, batch).items():
                torch.testing.assert_close(term, terms[name], rtol=1e-3, atol=1e-4)
        made.close()

    def test_a_block_that_was_not_copied_whole_is_refused(self, teacher: Artifact) -> None:
        model = load_classifier(teacher.path)
        objective_of(teacher, model, cache_states=True, hidden=1.0).close()
        (block,) = (cache_folder() / "teacher-states").glob("*/block-000.f16")
        block.write_bytes(block.read_bytes()[:-2])
        with pytest.raises(ArtifactError, match="block-000.f16: damaged; remove it"):
            objective_of(teacher, model, cache_states=True, hidden=1.0)

    def test_a_warm_cache_needs_no_teacher(self, teacher: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
        model = load_classifier(teacher.path)
        cold = objective_of(teacher, model, cache_states=True, **STATES)
        wanted = terms_of(cold, batches_of(cold)[1])
        cold.close()
        monkeypatch.setattr(outputs, "load_classifier", forbidden)
        warm = objective_of(teacher, model, cache_states=True, **STATES)
        found = terms_of(warm, batches_of(warm)[1])
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)

    def test_other_signals_are_stored_anew(self, teacher: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
        model = load_classifier(teacher.path)
        objective_of(teacher, model, cache_states=True, hidden=1.0).close()
        monkeypatch.setattr(outputs, "load_classifier", forbidden)
        with pytest.raises(AssertionError, match="must not be called"):
            objective_of(teacher, model, cache_states=True, embedding=1.0)

    def test_training_is_the_same(self, teacher: Artifact, tmp_path: Path) -> None:
        live, stored = (
            distilled(teacher, tmp_path / str(cached), hidden=1.0, cache_states=cached, **{"epochs": 2})
            for cached in (False, True)
        )
        assert losses_of(stored, "hidden") == pytest.approx(losses_of(live, "hidden"), rel=1e-2)

    def test_files_are_closed(self, teacher: Artifact) -> None:
        model, folder = load_classifier(teacher.path), Path("/proc/self/fd")
        if not folder.is_dir():
            pytest.skip("needs /proc")
        objective_of(teacher, model, cache_states=True, hidden=1.0).close()
        before = len(list(folder.iterdir()))
        for _ in range(3):
            objective_of(teacher, model, cache_states=True, hidden=1.0).close()
        assert len(list(folder.iterdir())) <= before


def forbidden(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("this must not be called")


class TestPrecision:
    @pytest.mark.parametrize("cached", [False, True])
    def test_a_teacher_asked_in_half_precision_says_nearly_the_same(self, teacher: Artifact, cached: bool) -> None:
        config = DistillConfig(**{**TRAINING, **STATES, "relation_heads": 4, "cache_states": cached})
        found = []
        for precision in ("fp32", "bf16"):
            student = load_classifier(teacher.path)
            chosen = config.model_copy(update={"precision": precision})
            made = Objective(chosen, student, teacher, context_of(teacher))
            batch = batches_of(made)[0]
            assert made._soft is not None and made._states is not None
            found.append({"top": torch.from_numpy(made._soft.top.copy()), **made._states(batch)})
            made.close()
        whole, half = found
        assert whole.keys() == half.keys()
        for name, states in whole.items():
            torch.testing.assert_close(half[name].float(), states.float(), rtol=0.05, atol=0.05)
        assert not torch.equal(whole["top"], half["top"])  # asked anew, not read from the cache of the other

    def test_a_student_learns_from_it(self, teacher: Artifact, tmp_path: Path) -> None:
        made = distilled(teacher, tmp_path / "2", **{**STATES, "relation_heads": 4, "precision": "bf16"})
        assert all(np.isfinite(losses_of(made, term)).all() for term in ("logits", "hidden", "attention", "total"))


class TestTargets:
    def test_fewer_classes_say_less(self, teacher: Artifact) -> None:
        """A KL over classes that are joined is at most that over all of them, and nearer the more are kept apart."""
        model = load_classifier(tiny_classifier("bert", teacher.path.parent / "student", LABELS, seed=5))
        found = []
        for top_k in (1, 2, None):
            made = objective_of(teacher, model, top_k=top_k, labels=0.0, logits=1.0)
            found.append([terms_of(made, batch)["logits"].item() for batch in batches_of(made)])
            made.close()
        one, two, all_of_them = (np.asarray(losses) for losses in found)
        assert (one <= two + 1e-5).all() and (two <= all_of_them + 1e-5).all()
        assert two == pytest.approx(all_of_them, rel=1e-3)  # of three classes, the two and the rest are all there is

    def test_rows_without_a_label_have_no_label_term(self, teacher: Artifact) -> None:
        model = load_classifier(teacher.path)
        made = objective_of(teacher, model, labels=1.0)
        batch = batches_of(made)[0]
        labels = batch.labels.clone()
        labels[::2] = NO_LABEL
        with torch.no_grad():
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            terms = terms_of(made, replace(batch, labels=labels))
            assert terms["labels"].item() == pytest.approx(F.cross_entropy(logits[1::2], labels[1::2]).item(), rel=1e-4)
            none = terms_of(made, replace(batch, labels=torch.full_like(labels, NO_LABEL)))
        assert none["labels"].item() == 0
        assert none["logits"].item() == pytest.approx(terms["logits"].item(), rel=1e-6)

    def test_a_batch_without_any_label_is_no_mistake(self, teacher: Artifact, tmp_path: Path) -> None:
        """Where labels are all there is to learn, it is simply passed over."""
        context = context_of(teacher)
        context = replace(context, data=replace(DATA, unlabelled=more_texts()))
        made = distilled(teacher, tmp_path / "2", context=context, batch_size=2, epochs=1, logits=0.0, labels=1.0)
        assert losses_of(made, "labels")[0] > 0


def more_texts() -> Split:
    """Twenty texts that no split has, without labels."""
    known = {*DATA.train.texts, *DATA.dev.texts, *DATA.test.texts}
    texts = [text for text in tiny_split(60, seed=9).texts if text not in known][:20]
    return Split(texts, None, [NO_LABEL] * 20)


class TestRows:
    @pytest.mark.parametrize(("rows", "wanted"), [("labelled", 48), ("unlabelled", 20), ("all", 68)])
    def test_which(self, teacher: Artifact, rows: str, wanted: int) -> None:
        context = replace(context_of(teacher), data=replace(DATA, unlabelled=more_texts()))
        made = objective_of(teacher, load_classifier(teacher.path), context, rows=rows)
        assert len(made.rows) == wanted
        assert made.rows.labels.count(NO_LABEL) == {"labelled": 0}.get(rows, 20)
        assert made._soft is not None
        expected = infer(load_classifier(teacher.path), made.rows, made.encoder)
        np.testing.assert_allclose(made._soft.top, expected, atol=1e-5)

    def test_there_are_no_unlabelled_ones(self, teacher: Artifact) -> None:
        with pytest.raises(ConfigError, match="rows: got unlabelled, but there are none"):
            objective_of(teacher, load_classifier(teacher.path), rows="unlabelled")

    def test_augmented_ones_have_no_label(self, teacher: Artifact) -> None:
        context = context_of(teacher, augment={"methods": ["delete"], "copies": 1})
        made = objective_of(teacher, load_classifier(teacher.path), context)
        assert 48 < len(made.rows) <= 96
        assert made.rows.labels.count(NO_LABEL) == len(made.rows) - 48

    @pytest.mark.parametrize("changes", [{"seed": 1}, {"share": 0.6}], ids=str)
    def test_other_augmented_texts_get_other_answers(self, teacher: Artifact, changes: dict[str, Any]) -> None:
        """Also where they are as many, and the first row is the same: no stored logits of other texts are taken."""
        model = load_classifier(teacher.path)
        for more in ({}, changes):
            augment = AugmentConfig(methods=("words",), copies=1).model_dump() | more
            made = objective_of(teacher, model, context_of(teacher, augment=augment))
            assert made._soft is not None
            np.testing.assert_allclose(made._soft.top, infer(model, made.rows, made.encoder), atol=1e-5)
            made.close()


def start(teacher: Artifact, **student: Any) -> Any:
    torch.manual_seed(0)
    return distill.start(teacher, context_of(teacher, student))


def are_rows_of(part: Tensor, whole: Tensor) -> bool:
    """Whether every row of (K, W) is a row of (N, W)."""
    return all(bool((whole == row).all(dim=1).any()) for row in part)


class TestInit:
    NARROW: dict[str, Any] = {"num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2}  # noqa: RUF012

    @pytest.mark.parametrize("init", ["layers", "pruning", "random"])
    def test_has_the_asked_shape(self, teacher: Artifact, init: str) -> None:
        shape = model_shape(start(teacher, init=init, **self.NARROW))
        assert [(layer.heads, layer.neurons) for layer in shape.layers] == [(2, (32,))]
        assert (shape.hidden_size, shape.head_width) == (32, 8)

    @pytest.mark.parametrize("init", ["layers", "pruning"])
    def test_keeps_the_teachers_weights(self, teacher: Artifact, init: str) -> None:
        model = load_classifier(teacher.path)
        (layer,), source = layers_of(start(teacher, init=init, **self.NARROW)), layers_of(model)[1]
        for path in ("intermediate.dense", "attention.self.query"):
            assert are_rows_of(linear_at(layer, path).weight, linear_at(source, path).weight)
        for path in ("output.dense", "attention.output.dense"):
            assert are_rows_of(linear_at(layer, path).weight.T, linear_at(source, path).weight.T)

    def test_random_keeps_none(self, teacher: Artifact) -> None:
        student, model = start(teacher, init="random", **self.NARROW), load_classifier(teacher.path)
        (layer,) = layers_of(student)
        for path in ("intermediate.dense", "attention.self.query"):
            for source in layers_of(model):
                assert not are_rows_of(linear_at(layer, path).weight[:1], linear_at(source, path).weight)
        assert not are_rows_of(word_table(student)[5:6], word_table(model))
        assert not torch.equal(student.classifier.weight, model.classifier.weight)

    def test_random_is_random_at_full_width_too(self, teacher: Artifact) -> None:
        student, model = start(teacher, init="random", num_hidden_layers=2), load_classifier(teacher.path)
        own, others = student.state_dict(), model.state_dict()
        kept = [name for name, tensor in own.items() if tensor.dim() == 2 and torch.equal(tensor, others[name])]
        assert kept == []

    def test_listed_layers(self, teacher: Artifact) -> None:
        student, model = start(teacher, num_hidden_layers=1, layers=[0]), load_classifier(teacher.path)
        ours, theirs = layers_of(student)[0].state_dict(), layers_of(model)[0].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    @pytest.mark.parametrize("init", ["layers", "pruning", "random"])
    def test_narrower_hidden_state(self, tmp_path: Path, init: str) -> None:
        """Twice as wide a teacher, because a width is a multiple of 32."""
        wide = sealed(tmp_path / "0-wide", lambda out: (wide_teacher(out), 0.0))
        student = start(wide, init=init, num_hidden_layers=1, hidden_size=32, num_attention_heads=2)
        shape = model_shape(student)
        assert (shape.hidden_size, shape.layers[0].heads, shape.head_width) == (32, 2, 16)
        source = word_table(load_classifier(wide.path)).T
        assert are_rows_of(word_table(student).T, source) == (init != "random")
        made = distilled(wide, tmp_path / "2", context_of(wide).recipe.student, epochs=0.2)
        assert made.spec.params is not None
        save_classifier(student, tmp_path / "again", wide.path)
        assert model_shape(load_classifier(tmp_path / "again")) == shape

    def test_checkpoint(self, teacher: Artifact, tmp_path: Path) -> None:
        first = start(teacher, **self.NARROW)
        noise(first)
        save_classifier(first, tmp_path / "first", teacher.path)
        student = start(teacher, init="checkpoint", checkpoint=str(tmp_path / "first"), **self.NARROW)
        assert all(torch.equal(tensor, first.state_dict()[name]) for name, tensor in student.state_dict().items())

    def test_checkpoint_of_another_shape(self, teacher: Artifact, tmp_path: Path) -> None:
        save_classifier(start(teacher, **self.NARROW), tmp_path / "first", teacher.path)
        with pytest.raises(ConfigError, match="is of another shape"):
            start(teacher, init="checkpoint", checkpoint=str(tmp_path / "first"), num_hidden_layers=1)

    def test_checkpoint_that_there_is_not(self, teacher: Artifact, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"has no model\.safetensors"):
            start(teacher, init="checkpoint", checkpoint=str(tmp_path), num_hidden_layers=1)

    def test_a_second_distill_stage_goes_on(self, teacher: Artifact, tmp_path: Path) -> None:
        first = distilled(teacher, tmp_path / "2", epochs=1)
        config = DistillConfig(**{**SHORT, "learning_rate": 1e-9})
        context = context_of(teacher)
        second = sealed(tmp_path / "3", lambda out: distill.run(config, first, context, out, first=False))
        ours, theirs = (load_classifier(made.path).state_dict() for made in (second, first))
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-5)


def wide_teacher(out: Path) -> Spec:
    """A random BERT whose hidden state is 64 wide."""
    from tiny import tiny_config, tiny_tokenizer
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    config = tiny_config("bert", LABELS)
    config.hidden_size = 64
    tiny_tokenizer(out)
    params = save_classifier(AutoModelForSequenceClassification.from_config(config), out, out)
    return Spec("torch", WEIGHTS, params, details=context_of().input_details(0))


def narrowed(teacher: Artifact, out: Path, **settings: Any) -> Artifact:
    return sealed(
        out, lambda folder: vocabulary.run(VocabularyConfig(**settings), teacher, context_of(teacher), folder)
    )


def pieces_of(folder: Path) -> dict[str, int]:
    from tokenizers import Tokenizer

    found: dict[str, int] = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    return found


class TestVocabulary:
    def test_rows_are_those_of_the_kept_pieces(self, teacher: Artifact, tmp_path: Path) -> None:
        made = narrowed(teacher, tmp_path / "1-vocabulary", size=70)
        old, new = pieces_of(teacher.path), pieces_of(made.path)
        assert set(new) < set(old)
        before, after = (word_table(load_classifier(artifact.path)) for artifact in (teacher, made))
        assert len(after) == len(new) == made.spec.details["after"]["vocab_size"]
        assert all(torch.equal(after[number], before[old[piece]]) for piece, number in new.items())

    def test_it_answers_as_before_on_what_it_has_read(self, teacher: Artifact, tmp_path: Path) -> None:
        made = narrowed(teacher, tmp_path / "1-vocabulary")
        answers = []
        for artifact in (teacher, made):
            encoder = Encoder(artifact.path, 32, "truncate", artifact.spec.details["pad_id"])
            rows = outputs.transfer_rows(context_of(teacher), "labelled", encoder)[1]
            answers.append(infer(load_classifier(artifact.path), rows, encoder))
        np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)

    @pytest.mark.parametrize("student", [None, SMALL], ids=["bert", "mobilebert"])
    def test_a_student_learns_from_both_teachers(self, teacher: Artifact, tmp_path: Path, student: Any) -> None:
        """Logits of the one that reads its own tokens, states of the one that reads the student's."""
        tutor = narrowed(teacher, tmp_path / "1-vocabulary", size=70)
        context = context_of(teacher, student).with_tutor(tutor)
        made = distilled(teacher, tmp_path / "2", context=context, **STATES)
        for term in ("total", "hidden", "embedding"):
            losses = losses_of(made, term)
            assert losses[-1] < losses[0]
        assert (made.path / "tokenizer.json").read_bytes() == (tutor.path / "tokenizer.json").read_bytes()
        model = load_classifier(made.path)
        assert len(word_table(model)) == len(pieces_of(made.path)) == 70
        from transformers import AutoTokenizer

        ids = AutoTokenizer.from_pretrained(made.path)("rain in the storm")["input_ids"]
        ours = Encoder(made.path, 32, "truncate", model.config.pad_token_id).pieces(["rain in the storm"])[0][0]
        assert list(ours.input_ids) == ids and max(ids) < 70

    def test_logits_come_from_the_whole_teacher(self, teacher: Artifact, tmp_path: Path) -> None:
        tutor = narrowed(teacher, tmp_path / "1-vocabulary", size=70)
        context = context_of(teacher).with_tutor(tutor)
        made = objective_of(teacher, load_classifier(tutor.path), context)
        encoder = Encoder(teacher.path, 32, "truncate", 0)
        rows = outputs.transfer_rows(context, "all", encoder)[1]
        assert made._soft is not None
        np.testing.assert_allclose(made._soft.top, infer(load_classifier(teacher.path), rows, encoder), atol=1e-5)

    @pytest.mark.parametrize("smaller", [False, True], ids=["its own tokens", "a tutor's tokens"])
    def test_logits_are_the_mean_of_an_ensemble(self, teacher: Artifact, tmp_path: Path, smaller: bool) -> None:
        others = [another_teacher(tmp_path / str(seed), seed) for seed in (2, 3)]
        context = context_of(teacher).with_ensemble(others)
        if smaller:
            context = context.with_tutor(narrowed(teacher, tmp_path / "1-vocabulary", size=70))
        alone = objective_of(teacher, load_classifier(teacher.path))
        made = objective_of(teacher, load_classifier((context.tutor or teacher).path), context)
        encoder = Encoder(teacher.path, 32, "truncate", 0)
        rows = outputs.transfer_rows(context, "all", encoder)[1]
        every = [infer(load_classifier(each.path), rows, encoder) for each in (teacher, *others)]
        assert made._soft is not None and alone._soft is not None
        np.testing.assert_allclose(made._soft.top, np.mean(every, axis=0), atol=1e-5)
        np.testing.assert_allclose(alone._soft.top, every[0], atol=1e-5)  # a cache of its own

    def test_states_of_the_first_token_come_from_the_whole_teacher(self, teacher: Artifact, tmp_path: Path) -> None:
        tutor = narrowed(teacher, tmp_path / "1-vocabulary", size=70)
        context = context_of(teacher).with_tutor(tutor)
        settings = {"hidden": 1.0, "hidden_tokens": "first", "layer_map": "last", "cache_states": True}
        made = objective_of(teacher, load_classifier(tutor.path), context, **settings)
        model = load_classifier(teacher.path)
        rows = outputs.transfer_rows(context, "all", Encoder(teacher.path, 32, "truncate", 0))[1]
        taps, last = Taps(model, ["hidden.1"]), {}
        with torch.inference_mode():
            for positions, batch in in_order(rows, Encoder(teacher.path, 32, "truncate", 0)):
                model(**batch.inputs(token_types=True))
                last |= dict(zip(positions, taps.last["hidden.1"][:, 0], strict=True))
        batch = batches_of(made)[0]
        assert made._states is not None
        found = made._states(batch)["hidden.1"]  # (B, T, H)
        wanted = torch.stack([last[position] for position in batch.positions.tolist()])
        torch.testing.assert_close(found[:, 0], wanted, rtol=0, atol=2e-3)
        assert found.shape[1] == batch.input_ids.shape[1] and not found[:, 1:].any()

    def test_embedding_as_a_product(self, teacher: Artifact, tmp_path: Path) -> None:
        made = narrowed(teacher, tmp_path / "1-vocabulary", embedding_size=16)
        model = load_classifier(made.path)
        words = model.get_input_embeddings()
        assert isinstance(words, FactorizedEmbedding)
        assert tuple(words.table.weight.shape) == (len(pieces_of(made.path)), 16)
        assert model_shape(model).embedding_size == 16
        folder = narrowed(teacher, tmp_path / "whole").path
        counts = torch.from_numpy(count_pieces(folder, context_of(teacher).data.train.texts)) + 1
        often = counts.sqrt()[:, None]  # what occurs often is lost least
        whole = often * word_table(load_classifier(folder))
        error = torch.linalg.matrix_norm(often * word_table(model) - whole)
        assert error.item() == pytest.approx(torch.linalg.svdvals(whole)[16:].pow(2).sum().sqrt().item(), rel=1e-3)
        save_classifier(model, tmp_path / "again", made.path)
        torch.testing.assert_close(word_table(load_classifier(tmp_path / "again")), word_table(model))

    def test_a_student_of_it_reloads(self, teacher: Artifact, tmp_path: Path) -> None:
        tutor = narrowed(teacher, tmp_path / "1-vocabulary", embedding_size=16)
        context = context_of(teacher).with_tutor(tutor)
        made = distilled(
            teacher, tmp_path / "2", context=context, **{**SHORT, "hidden": 1.0, "freeze_embeddings": True}
        )
        ours, theirs = (load_classifier(artifact.path).get_input_embeddings() for artifact in (made, tutor))
        assert isinstance(ours, FactorizedEmbedding)
        torch.testing.assert_close(ours.product(), theirs.product())

    @pytest.mark.parametrize("size", [32, 40])
    def test_an_embedding_that_is_not_smaller(self, teacher: Artifact, tmp_path: Path, size: int) -> None:
        with pytest.raises(ConfigError, match=f"vocabulary.embedding_size: got {size}, allowed: under 32"):
            narrowed(teacher, tmp_path / "1-vocabulary", embedding_size=size)
