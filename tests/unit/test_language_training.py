"""Training of language models: steps over packed sequences, what the teacher says, and what a kill costs (nothing)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chat_server import chat
from safetensors.torch import load_file
from torch.nn import functional as F

from edgetf.config.language.models import LlamaShape
from edgetf.config.language.recipe import LanguageRecipe
from edgetf.config.language.stages import LanguageDistillConfig, PretrainConfig, SequenceLevelConfig, StepsConfig
from edgetf.core.artifact import Artifact, load, open_verified, seal
from edgetf.core.decoder import DecoderFacts
from edgetf.core.errors import ConfigError, DataError
from edgetf.data.corpus.blocks import pack
from edgetf.data.corpus.documents import Corpus
from edgetf.data.corpus.written import remote_texts
from edgetf.models.decoders.checkpoint import load_decoder
from edgetf.models.decoders.students import llama
from edgetf.stages.language import distill, pretrain
from edgetf.stages.language.context import LanguageContext
from edgetf.training import blocks as row_blocks
from edgetf.training.language import packed as packed_module
from edgetf.training.language import tutor as tutor_module
from edgetf.training.language.objective import Objective, next_token_loss
from edgetf.training.language.packed import BlockBatch, Packed, StepOrder, paced, used
from edgetf.training.language.perplexity import block_losses, perplexity
from edgetf.training.language.sampling import draw, write_on
from edgetf.training.language.texts import tutor_texts
from edgetf.training.language.tutor import Tutor, likeliest
from edgetf.training.loop import Job, train

torch.set_num_threads(1)

V, LENGTH = 310, 24
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64,
}  # fmt: skip
THIN = {**SHAPE, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


class Killed(BaseException):
    """Stands for a signal: no `except Exception` may swallow it."""


def silent(done: int, total: int, note: str) -> None:
    """A report to nobody."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def documents(count: int) -> list[str]:
    """Sentences in which each word says something of the next."""
    rng, follows = random.Random(0), {}
    words = "rain wind sun snow fog storm cloud river town hill road bridge boat fish bird night".split()
    for word in words:
        follows[word] = rng.sample(words, 3)
    made = []
    for _ in range(count):
        text = [rng.choice(words)]
        while len(text) < 40:
            text.append(rng.choice(follows[text[-1]]))
        made.append(" ".join(text))
    return made


TEXTS = documents(160)
CORPUS = Corpus(tuple(TEXTS[:120]), tuple(TEXTS[120:140]), tuple(TEXTS[140:]), "tiny")


def context(*stages: dict[str, Any], **changes: Any) -> LanguageContext:
    record = {
        "name": "tiny", "task": "language_modeling", "teacher": {**SHAPE, "tokenizer": {"vocab_size": V}},
        "data": {"sources": ["here"], "max_length": LENGTH}, "student": {**THIN, "architecture": "tinygpt"},
        "stages": [*stages, {"stage": "export"}], **changes,
    }  # fmt: skip
    return LanguageContext(LanguageRecipe.model_validate(record), CORPUS, silent, lambda words: None)


def asked(kind: str, **settings: Any) -> dict[str, Any]:
    return {"stage": kind, "threads": 1, "batch_size": 8, "learning_rate": 5e-3, "steps": 30,
            "precision": "fp32", **settings}  # fmt: skip


def made(folder: Path, write: Callable[[Path], Any]) -> Artifact:
    return open_verified(seal(folder, stage="s", key="k", parents=[], made={}, write=write).path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A teacher that has learned the texts from nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("EDGETF_CACHE", str(tmp_path_factory.mktemp("cache")))
        recipe = context(asked("pretrain", steps=150), asked("distill"))
        stage = recipe.recipe.stages[0]
        assert isinstance(stage, PretrainConfig)
        return made(tmp_path_factory.mktemp("run") / "teacher", lambda out: pretrain.run(stage, recipe, out))


def student_of(tutor: Artifact, out: Path, **settings: Any) -> Artifact:
    recipe = context(asked("pretrain"), asked("distill", **settings)).with_tutor(tutor)
    stage = recipe.recipe.distill()
    assert stage is not None
    return made(out, lambda part: distill.run(stage, tutor, recipe, part))


def some_blocks(count: int = 20, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, V, (count, LENGTH)).astype(np.int32)


def fresh(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return llama(LlamaShape(**{**THIN, **changes}), V, LENGTH, 0)


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestOrder:
    def test_every_block_comes_once_a_pass(self) -> None:
        order = StepOrder(10, 4, 0, batches=5)
        places = [position for batch in order for position in batch]
        assert sorted(places[:10]) == sorted(places[10:]) == list(range(10))
        assert places[:10] != places[10:]

    def test_epochs_follow_one_another(self) -> None:
        whole = list(StepOrder(10, 4, 0, batches=6))
        parts = StepOrder(10, 4, 0, batches=2)
        found = []
        for epoch in range(3):
            parts.set_epoch(epoch)
            found += list(parts)
        assert found == whole

    def test_only_what_is_learned_from_is_asked_for(self) -> None:
        config = StepsConfig(steps=3, batch_size=2)
        assert used(100, config, 0) == sorted({place for batch in StepOrder(100, 2, 0, 3) for place in batch})
        assert used(4, config, 0) == [0, 1, 2, 3]

    @pytest.mark.parametrize(("steps", "every", "epochs"), [(10, None, 5), (7, 3, 7 / 3), (3, 50, 1), (1, None, 1)])
    def test_steps_become_the_loops_epochs(self, steps: int, every: int | None, epochs: float) -> None:
        loop, batches = paced(StepsConfig(steps=steps, evaluate_every=every, gradient_accumulation=2))
        assert loop.epochs == pytest.approx(epochs)
        assert round(loop.epochs * batches) == 2 * steps


@pytest.mark.parametrize(
    ("asked", "fast", "taken"), [("auto", True, "bf16"), ("auto", False, "auto"), ("fp32", True, "fp32")]
)
def test_auto_is_half_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, asked: Any, fast: bool, taken: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(packed_module, "halves_on_processor", lambda: fast)
    assert paced(StepsConfig(precision=asked))[0].precision == taken


def job_of(out: Path, blocks: Any, report: Any = silent, **settings: Any) -> Job[BlockBatch]:
    model, dev = fresh(), some_blocks(4, seed=1)
    asks = {"precision": "fp32", "steps": 12, "batch_size": 4, "learning_rate": 5e-3, "threads": 1, "evaluate_every": 4}
    config = StepsConfig(**{**asks, **settings})
    loop, batches = paced(config)
    return Job(
        model=model, material=Packed(blocks, batches), loss=next_token_loss,
        evaluate=lambda trained: -float(block_losses(model, dev).mean()), config=loop, folder=out, seed=0,
        report=report, say=lambda remark: None, keep_best=False,
    )  # fmt: skip


class TestLoop:
    @pytest.mark.parametrize("step", [2, 5, 9, 12])
    def test_a_kill_changes_no_weight(self, tmp_path: Path, step: int) -> None:
        whole = job_of(tmp_path / "whole", some_blocks())
        train(whole)

        def killing(done: int, total: int, note: str) -> None:
            if done == step:
                raise Killed

        settings = {"checkpoint_seconds": 1e-9}
        with pytest.raises(Killed):
            train(job_of(tmp_path / "cut", some_blocks(), killing, **settings))
        again = job_of(tmp_path / "cut", some_blocks(), **settings)
        assert train(again).resumed == 1
        assert same(weights_of(again.model), weights_of(whole.model))

    def test_accumulated_batches_are_like_one(self, tmp_path: Path) -> None:
        whole = job_of(tmp_path / "a", some_blocks(), batch_size=8)
        parts = job_of(tmp_path / "b", some_blocks(), batch_size=2, gradient_accumulation=4)
        for job in (whole, parts):
            assert len(train(job).history) == 3
        for name, tensor in weights_of(whole.model).items():
            torch.testing.assert_close(weights_of(parts.model)[name], tensor, rtol=0, atol=2e-3)


class TestTutor:
    def test_the_likeliest_are_kept_once(
        self, teacher: Artifact, monkeypatch: pytest.MonkeyPatch, _own_cache: Path
    ) -> None:
        """Nine blocks of which six are asked for, in files of four; a cut pass goes on where it was."""
        monkeypatch.setattr(row_blocks, "LEAST", 4)
        blocks, positions = some_blocks(9), [0, 2, 3, 5, 7, 8]
        calls, real = [], Tutor.logits

        def dies(self: Tutor, ids: torch.Tensor) -> torch.Tensor:
            calls.append(len(ids))
            if len(calls) == 2:
                raise Killed
            return real(self, ids)

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Tutor, "logits", dies)
            likeliest(Tutor(teacher), blocks, positions, 5, 2.0, silent)
        assert calls == [4, 2]
        found = likeliest(Tutor(teacher), blocks, positions, 5, 2.0, silent)
        again = likeliest(Tutor(teacher), blocks, positions, 5, 2.0, silent)
        assert isinstance(again.arrays["top"], np.memmap)
        top, kept, rest = again.at(torch.tensor([7, 2]))
        for one, other in zip(found.at(torch.tensor([7, 2])), (top, kept, rest), strict=True):
            torch.testing.assert_close(one, other)
        logits = Tutor(teacher).logits(torch.from_numpy(blocks[[7, 2]]).long())
        wanted = (logits / 2.0).log_softmax(-1)
        torch.testing.assert_close(top, wanted.topk(5).values, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(wanted.gather(-1, kept), wanted.topk(5).values, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(top.exp().sum(-1) + rest.exp(), torch.ones(2, LENGTH - 1), rtol=0, atol=2e-3)

    def test_another_question_is_asked_anew(self, teacher: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
        runs = 0
        real = tutor_module.keep_top

        def counted(*words: Any) -> Any:
            nonlocal runs
            runs += 1
            return real(*words)

        monkeypatch.setattr(tutor_module, "keep_top", counted)
        blocks = some_blocks(4)
        for more in (([0, 1], 5, 1.0), ([0, 1], 5, 1.0), ([0, 2], 5, 1.0), ([0, 1], 6, 1.0), ([0, 1], 5, 2.0)):
            likeliest(Tutor(teacher), blocks, *more, silent)
        likeliest(Tutor(teacher), some_blocks(4, seed=2), [0, 1], 5, 1.0, silent)
        assert runs == 5

    @pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
    def test_nearly_all_tokens_from_the_disk_teach_as_all(self, teacher: Artifact, kind: Any) -> None:
        config = LanguageDistillConfig(divergence=kind, temperature=2.0, labels=0.3, teacher=0.7)
        blocks, tutor = some_blocks(4), Tutor(teacher)
        stored = likeliest(tutor, blocks, [0, 1, 2, 3], V - 1, 2.0, silent)
        batch = Packed(blocks, 1).batch([3, 1])
        student = fresh()
        gradients = []
        for answers in (stored, None):
            terms = Objective(config, tutor, answers, None, 10).loss(student, batch, 0.0)
            student.zero_grad()
            sum(terms.values()).backward()  # type: ignore[union-attr]
            gradients.append(student.get_input_embeddings().weight.grad.clone())
            assert terms["labels"].item() == pytest.approx(0.3 * next_token_loss(student, batch, 0)["labels"].item())
        torch.testing.assert_close(gradients[0], gradients[1], rtol=0.02, atol=2e-4)


class TestSampling:
    def test_greedy_is_transformers_generate(self, teacher: Artifact) -> None:
        model = load_decoder(teacher.path)
        prompts = torch.from_numpy(some_blocks(3)[:, :6]).long()
        wanted = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=10, do_sample=False, eos_token_id=None,
            pad_token_id=0,
        )  # fmt: skip
        torch.testing.assert_close(write_on(model, prompts, 10, 0.0), wanted)

    def test_a_text_ends_where_its_end_is_drawn(self, teacher: Artifact) -> None:
        model = load_decoder(teacher.path)
        prompts = torch.from_numpy(some_blocks(2)[:, :6]).long()
        free = write_on(model, prompts, 10, 0.0)
        end = int(free[0, 7])
        cut = write_on(model, prompts, 10, 0.0, ends=(end,))
        assert set(cut[0, 7:].tolist()) == {end}

    def test_draws_follow_the_chances(self) -> None:
        chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
        rows = chances.log().expand(4000, 4)
        seeded = torch.Generator().manual_seed(0)
        free = torch.bincount(draw(rows, 1.0, 1.0, seeded), minlength=4) / 4000
        torch.testing.assert_close(free, chances, rtol=0, atol=0.03)
        nucleus = torch.bincount(draw(rows, 1.0, 0.7, seeded), minlength=4) / 4000
        torch.testing.assert_close(nucleus, torch.tensor([0.625, 0.375, 0, 0]), rtol=0, atol=0.03)

    def test_texts_of_the_teacher_begin_as_documents_do(
        self, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = SequenceLevelConfig(samples=5, prompt_tokens=6, max_new_tokens=8)
        facts = DecoderFacts.from_json(teacher.spec.details["decoder"])
        texts = tutor_texts(config, Tutor(teacher), facts, TEXTS[:3], 0, silent)
        assert len(texts) == 5
        assert texts[0][:12] == TEXTS[0][:12] and texts[3][:12] == TEXTS[0][:12]
        assert all(len(text) > 12 for text in texts)
        monkeypatch.setattr(Tutor, "model", property(lambda self: pytest.fail("asked again")))
        assert tutor_texts(config, Tutor(teacher), facts, TEXTS[:3], 0, silent) == texts
        with pytest.raises(DataError, match="prompt_tokens: got 999, no document is longer"):
            tutor_texts(config.model_copy(update={"prompt_tokens": 999}), Tutor(teacher), facts, TEXTS, 0, silent)


class TestStages:
    def test_a_teacher_learns_from_nothing(self, teacher: Artifact) -> None:
        metric = teacher.spec.metrics[0]
        assert metric.name == "dev_perplexity" and metric.value is not None and metric.ci95 is not None
        assert metric.ci95[0] < metric.value < metric.ci95[1] < 30
        assert metric.n % (LENGTH - 1) == 0 and metric.n > 200
        history = teacher.spec.details["training"]["history"]
        assert [row["step"] for row in history] == [30, 60, 90, 120, 150]
        assert history[0]["dev_perplexity"] > history[-1]["dev_perplexity"] == pytest.approx(metric.value)
        assert load_decoder(teacher.path).config.tie_word_embeddings

    @pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
    def test_a_student_beats_its_start(self, teacher: Artifact, tmp_path: Path, kind: str) -> None:
        student = student_of(teacher, tmp_path / "student", divergence=kind, teacher=1.0, labels=0.0, top_k=32)
        start = perplexity(block_losses(fresh(), np.asarray(_dev_blocks(teacher))), LENGTH - 1).value
        value = student.spec.metrics[0].value
        assert value is not None and start is not None and value < 0.7 * start
        assert student.spec.details["decoder"]["num_hidden_layers"] == 1
        assert student.spec.details["task"] == "language_modeling"

    def test_it_learns_from_what_it_writes_itself(self, teacher: Artifact, tmp_path: Path) -> None:
        settings = {"on_policy": {"share": 0.5, "prompt_tokens": 4}, "steps": 20}
        student = student_of(teacher, tmp_path / "student", **settings)
        last = student.spec.details["training"]["history"][-1]
        assert {"loss_on_policy", "loss_teacher", "loss_labels"} <= set(last)
        alone = student_of(teacher, tmp_path / "alone", steps=20, on_policy={"share": 1.0}, teacher=0.0, labels=1.0)
        assert "loss_labels" not in alone.spec.details["training"]["history"][-1]

    def test_half_precision_learns_as_well(self, teacher: Artifact, tmp_path: Path) -> None:
        """What is written and measured is float32, whatever the training multiplied in."""
        settings = {"on_policy": {"share": 0.25, "prompt_tokens": 4}}
        whole, half = (student_of(teacher, tmp_path / kind, precision=kind, **settings) for kind in ("fp32", "bf16"))
        ours, theirs = half.spec.metrics[0].value, whole.spec.metrics[0].value
        assert ours is not None and ours != theirs and ours == pytest.approx(theirs, rel=0.05)
        assert {tensor.dtype for tensor in load_file(half.model_path).values()} == {torch.float32}

    def test_it_learns_from_texts_that_the_teacher_writes(self, teacher: Artifact, tmp_path: Path) -> None:
        settings = {"teacher": 0.0, "labels": 1.0, "steps": 20}
        sequence = {"samples": 40, "prompt_tokens": 4, "max_new_tokens": 18, "with_documents": False}
        student = student_of(teacher, tmp_path / "student", sequence_level=sequence, **settings)
        assert student.spec.details["teacher_texts"] == 40
        history = student.spec.details["training"]["history"]
        assert history[-1]["dev_perplexity"] < history[0]["dev_perplexity"]

    def test_other_tokens_are_refused_with_the_way_out(self, teacher: Artifact, tmp_path: Path) -> None:
        other = context(asked("pretrain", steps=1), asked("distill", steps=1),
                        teacher={**SHAPE, "tokenizer": {"vocab_size": 300}})  # fmt: skip
        stage = other.recipe.stages[0]
        assert isinstance(stage, PretrainConfig)
        source = made(tmp_path / "other", lambda out: pretrain.run(stage, other, out))
        wanted = other.recipe.distill()
        assert wanted is not None
        with pytest.raises(ConfigError, match=r"300 tokens\) is not the teacher's \(310 tokens.*sequence_level"):
            distill.run(wanted, source, other.with_tutor(teacher), tmp_path)

    def test_a_rate_that_is_too_high_is_told(self, teacher: Artifact, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="the loss became .*; lower learning_rate, got 0.99"):
            student_of(teacher, tmp_path / "student", learning_rate=0.99, max_grad_norm=1e30, warmup=0, steps=400,
                       weight_decay=1e6)  # fmt: skip

    def test_a_kill_changes_no_weight_of_a_student(
        self, teacher: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With what it writes itself, drawn anew at every step."""
        settings = {"on_policy": {"share": 0.5, "prompt_tokens": 4}, "steps": 9, "checkpoint_seconds": 1e-9}
        whole = student_of(teacher, tmp_path / "whole", **settings)
        recipe = context(asked("pretrain"), asked("distill", **settings)).with_tutor(teacher)
        stage = recipe.recipe.distill()
        assert stage is not None

        def killing(done: int, total: int, note: str) -> None:
            if done == 6 and note.startswith("loss"):
                raise Killed

        with pytest.raises(Killed):
            made(tmp_path / "cut", lambda out: distill.run(stage, teacher, replace(recipe, report=killing), out))
        cut = made(tmp_path / "cut", lambda out: distill.run(stage, teacher, recipe, out))
        assert cut.spec.details["training"]["resumed"] == 1
        assert cut.model_path.read_bytes() == whole.model_path.read_bytes()


def _dev_blocks(teacher: Artifact) -> Any:

    return pack(CORPUS.dev, teacher.path, DecoderFacts.from_json(teacher.spec.details["decoder"]), LENGTH)


class TestEndpoint:
    def remote(self, url: str, **changes: Any) -> LanguageContext:
        teacher = {"endpoint": url, "model": "big", "retries": 1, "tokenizer": {"vocab_size": V}, **changes}
        stage = asked("distill", teacher=0.0, labels=1.0, steps=10, sequence_level={"samples": 6, "prompt_tokens": 5})
        return context(stage, teacher=teacher)

    def test_a_student_learns_from_its_texts(self, tmp_path: Path) -> None:
        with chat(lambda beginning: "and then the river froze over all of the town") as server:
            recipe = self.remote(server.url)
            stage = recipe.recipe.distill()
            assert stage is not None
            student = made(tmp_path / "student", lambda out: distill.run(stage, None, recipe, out))
            assert len(server.texts) == 6 and server.texts[0] in {" ".join(t.split()[:5]) for t in CORPUS.train}
            assert server.requests[0]["top_p"] == 0.95 and server.requests[0]["max_tokens"] == 128
            again = made(tmp_path / "again", lambda out: distill.run(stage, None, recipe, out))
            assert len(server.texts) == 6
        assert student.spec.details["teacher_texts"] == 6
        assert again.model_path.read_bytes() == student.model_path.read_bytes()
        assert load(student.path).spec.details["decoder"]["vocab_size"] == V

    def test_a_limit_ends_it_and_the_next_run_goes_on(self) -> None:
        with chat(lambda beginning: "more") as server:
            recipe = self.remote(server.url, max_requests=4, concurrency=1).recipe
            config = recipe.distill()
            assert config is not None and config.sequence_level is not None
            with pytest.raises(ConfigError, match="teacher.max_requests: 4 of 6 texts are written on, 4 requests"):
                remote_texts(config.sequence_level, recipe.teacher, CORPUS.train, silent)  # type: ignore[arg-type]
            texts = remote_texts(config.sequence_level, recipe.teacher, CORPUS.train, silent)  # type: ignore[arg-type]
            assert len(server.texts) == 6
        assert texts[0] == " ".join(CORPUS.train[0].split()[:5]) + " more"


def test_perplexity_of_a_model_that_knows_nothing_is_its_vocabulary() -> None:
    model = fresh()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert perplexity(block_losses(model, some_blocks(3)), LENGTH - 1).value == pytest.approx(V, rel=1e-5)


def test_losses_are_those_of_each_block_alone() -> None:
    model, blocks = fresh(), some_blocks(35)
    found = block_losses(model, blocks)
    ids = torch.from_numpy(blocks[34:]).long()
    with torch.no_grad():
        alone = F.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:])
    assert found.shape == (35,) and found[34] == pytest.approx(alone.item(), rel=1e-5)
