"""The training loop: it learns, and a kill at any moment costs nothing but the steps since the last save."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import FAMILY_NAMES, accuracy, tiny_classifier, tiny_dataset
from torch.nn import functional as F

from edgetf.config.stages import FinetuneConfig
from edgetf.core.errors import ArtifactError
from edgetf.core.part import Part
from edgetf.models.checkpoint import load_classifier
from edgetf.runtime.encoder import Encoder
from edgetf.training import blocks, threads
from edgetf.training import teacher as teacher_module
from edgetf.training.batches import Encoded, Rows, TensorBatch, encode_split
from edgetf.training.loop import Job, Losses, Progress, precision_of, train
from edgetf.training.teacher import Question, answer, by_row, cached_logits, infer, takes_token_types

torch.set_num_threads(1)

DATA = tiny_dataset()
Weights = dict[str, torch.Tensor]


class Killed(BaseException):
    """Stands for a signal: no `except Exception` may swallow it."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: tiny_classifier(family, tmp_path_factory.mktemp(family)) for family in FAMILY_NAMES}


def encoder_of(folder: Path, model: Any) -> Encoder:
    return Encoder(folder, 64, "truncate", model.config.pad_token_id)


def cross_entropy(model: Any, batch: TensorBatch, done: float) -> Losses:
    logits = model(**batch.inputs(takes_token_types(model))).logits
    return {"labels": F.cross_entropy(logits, batch.labels)}


def silent(done: int, total: int, note: str) -> None:
    """A report to nobody."""


def new_job(checkpoint: Path, out: Path, rows: int = 40, **settings: Any) -> Job[TensorBatch]:
    """A job of five batches of eight an epoch on a fresh model, dropout and all."""
    model = load_classifier(checkpoint)
    encoder = encoder_of(checkpoint, model)
    asked = {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "threads": 1, **settings}
    dev = encode_split(DATA.dev, encoder)
    return Job(
        model=model,
        material=Encoded(encode_split(DATA.train.select(list(range(rows))), encoder), encoder),
        loss=cross_entropy,
        evaluate=lambda trained: accuracy(trained, dev, encoder),
        config=FinetuneConfig(**asked),
        folder=out,
        seed=0,
        report=silent,
        say=lambda remark: None,
    )


def weights_of(job: Job[TensorBatch]) -> Weights:
    return {name: tensor.clone() for name, tensor in job.model.state_dict().items()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def killing(step: int) -> Callable[[int, int, str], None]:
    """A report that kills when this step is done."""

    def report(done: int, total: int, note: str) -> None:
        if done == step and note.startswith("loss"):
            raise Killed

    return report


class TestLearning:
    @pytest.mark.parametrize("family", FAMILY_NAMES)
    def test_every_family_learns_the_tiny_rows(self, folders: dict[str, Path], family: str, tmp_path: Path) -> None:
        epochs, learning_rate = (10, 3e-3) if family == "mobilebert" else (6, 5e-3)
        job = new_job(folders[family], tmp_path, rows=192, epochs=epochs, learning_rate=learning_rate)
        progress = train(job)
        assert progress.best >= 0.9
        assert progress.best == job.evaluate(job.model)
        assert len(progress.history) == epochs
        assert progress.history[-1]["loss_labels"] < progress.history[0]["loss_labels"]

    def test_is_repeatable(self, folders: dict[str, Path], tmp_path: Path) -> None:
        jobs = [new_job(folders["bert"], tmp_path / name) for name in ("a", "b")]
        for job in jobs:
            train(job)
        assert same(weights_of(jobs[0]), weights_of(jobs[1]))

    def test_another_seed_gives_other_weights(self, folders: dict[str, Path], tmp_path: Path) -> None:
        jobs = [replace(new_job(folders["bert"], tmp_path / str(seed)), seed=seed) for seed in (0, 1)]
        for job in jobs:
            train(job)
        assert not same(weights_of(jobs[0]), weights_of(jobs[1]))

    def test_reports_every_step(self, folders: dict[str, Path], tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        job = new_job(folders["bert"], tmp_path)
        train(replace(job, report=lambda done, total, note: seen.append((done, total))))
        assert seen == [(k, 15) for k in range(1, 16)]

    def test_half_an_epoch(self, folders: dict[str, Path], tmp_path: Path) -> None:
        seen: list[int] = []
        job = new_job(folders["bert"], tmp_path, epochs=1.4)
        progress = train(replace(job, report=lambda done, total, note: seen.append(done)))
        assert seen == list(range(1, 8))
        assert len(progress.history) == 2

    def test_leaves_the_model_ready_for_use(self, folders: dict[str, Path], tmp_path: Path) -> None:
        job = new_job(folders["bert"], tmp_path, epochs=1)
        train(job)
        assert not job.model.training
        assert all(parameter.requires_grad for parameter in job.model.parameters())

    def test_frozen_embeddings_do_not_move(self, folders: dict[str, Path], tmp_path: Path) -> None:
        job = new_job(folders["bert"], tmp_path, epochs=1, freeze_embeddings=True)
        before = weights_of(job)
        train(job)
        name = "bert.embeddings.word_embeddings.weight"
        moved = [key for key, tensor in weights_of(job).items() if not torch.equal(tensor, before[key])]
        assert name not in moved and len(moved) > 10
        assert job.model.get_input_embeddings().weight.requires_grad

    def test_terms_are_summed_and_told_by_name(self, folders: dict[str, Path], tmp_path: Path) -> None:
        def two_terms(model: Any, batch: TensorBatch, done: float) -> Losses:
            loss = cross_entropy(model, batch, done)["labels"]
            return {"first": 0.75 * loss, "second": 0.25 * loss}

        plain, split = new_job(folders["bert"], tmp_path / "a"), new_job(folders["bert"], tmp_path / "b")
        one, two = train(plain), train(replace(split, loss=two_terms))
        for ours, theirs in zip(one.history, two.history, strict=True):
            assert theirs["loss_total"] == pytest.approx(ours["loss_total"], rel=1e-2)
            assert theirs["loss_first"] == pytest.approx(3 * theirs["loss_second"], rel=1e-3)


class TestResume:
    @pytest.fixture(scope="class")
    def uninterrupted(
        self, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
    ) -> tuple[Weights, Progress]:
        job = new_job(folders["bert"], tmp_path_factory.mktemp("whole"))
        progress = train(job)
        return weights_of(job), progress

    def interrupted(
        self, checkpoint: Path, out: Path, kills: list[int], **settings: Any
    ) -> tuple[Job[TensorBatch], Progress]:
        """Train with a kill at each of these steps, saving after every step, then to the end."""
        for step in kills:
            job = new_job(checkpoint, out, checkpoint_seconds=1e-9, **settings)
            with pytest.raises(Killed):
                train(replace(job, report=killing(step)))
        job = new_job(checkpoint, out, checkpoint_seconds=1e-9, **settings)
        return job, train(job)

    @pytest.mark.parametrize("step", [1, 2, 4, 5, 6, 9, 10, 11, 14, 15])
    def test_gives_bitwise_the_same_weights(
        self, folders: dict[str, Path], tmp_path: Path, uninterrupted: tuple[Weights, Progress], step: int
    ) -> None:
        job, progress = self.interrupted(folders["bert"], tmp_path, [step])
        assert progress.resumed == (step > 1)
        assert same(weights_of(job), uninterrupted[0])
        assert progress.best == uninterrupted[1].best
        assert [row["dev_accuracy"] for row in progress.history] == [
            row["dev_accuracy"] for row in uninterrupted[1].history
        ]

    def test_survives_many_kills(
        self, folders: dict[str, Path], tmp_path: Path, uninterrupted: tuple[Weights, Progress]
    ) -> None:
        job, _ = self.interrupted(folders["bert"], tmp_path, [3, 5, 8, 8, 13])
        assert same(weights_of(job), uninterrupted[0])

    def test_tells_the_same_losses(
        self, folders: dict[str, Path], tmp_path: Path, uninterrupted: tuple[Weights, Progress]
    ) -> None:
        """The mean loss of an epoch is over all its steps, also of those before the kill."""
        _, progress = self.interrupted(folders["bert"], tmp_path, [8])
        assert progress.history == uninterrupted[1].history

    @pytest.mark.parametrize("epochs", [1, 3])
    def test_killed_in_the_last_evaluation(self, folders: dict[str, Path], tmp_path: Path, epochs: int) -> None:
        """All steps are saved, the score is not: the resumed run still measures and keeps the best epoch."""
        whole = new_job(folders["bert"], tmp_path / "whole", epochs=epochs)
        wanted = train(whole)
        job = new_job(folders["bert"], tmp_path / "cut", epochs=epochs, checkpoint_seconds=1e-9)
        calls = 0

        def dies(model: Any) -> float:
            nonlocal calls
            calls += 1
            if calls == epochs:
                raise Killed
            return job.evaluate(model)

        with pytest.raises(Killed):
            train(replace(job, evaluate=dies))
        again = new_job(folders["bert"], tmp_path / "cut", epochs=epochs, checkpoint_seconds=1e-9)
        progress = train(again)
        assert len(progress.history) == epochs
        assert (progress.best, progress.best_epoch) == (wanted.best, wanted.best_epoch)
        assert same(weights_of(again), weights_of(whole))

    @pytest.mark.parametrize("step", [2, 3, 4, 6, 8])
    def test_in_the_middle_of_an_accumulation(self, folders: dict[str, Path], tmp_path: Path, step: int) -> None:
        whole = new_job(folders["bert"], tmp_path / "whole", gradient_accumulation=3)
        train(whole)
        job, _ = self.interrupted(folders["bert"], tmp_path / "cut", [step], gradient_accumulation=3)
        assert same(weights_of(job), weights_of(whole))

    def test_a_kill_while_saving_loses_nothing(
        self, folders: dict[str, Path], tmp_path: Path, uninterrupted: tuple[Weights, Progress],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """Between the removal of the old state and the renaming of the new one there is still a whole state."""
        real = Path.rename

        def dies(self: Path, target: Any) -> Path:
            if self.name == "new" and (self.parent / "best.pt").exists():
                raise Killed
            return real(self, target)

        job = new_job(folders["bert"], tmp_path, checkpoint_seconds=1e-9)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Path, "rename", dies)
            train(job)
        assert not (tmp_path / "checkpoint" / "state").exists()
        again = new_job(folders["bert"], tmp_path)
        progress = train(again)
        assert progress.resumed == 1
        assert same(weights_of(again), uninterrupted[0])

    def test_a_finished_training_is_not_repeated(self, folders: dict[str, Path], tmp_path: Path) -> None:
        job = new_job(folders["bert"], tmp_path)
        before = train(job)
        again = new_job(folders["bert"], tmp_path)
        progress = train(replace(again, loss=forbidden))
        assert progress.history == before.history
        assert same(weights_of(again), weights_of(job))

    def test_says_where_it_goes_on(self, folders: dict[str, Path], tmp_path: Path) -> None:
        job = new_job(folders["bert"], tmp_path, checkpoint_seconds=1e-9)
        with pytest.raises(Killed):
            train(replace(job, report=killing(8)))
        remarks: list[str] = []
        train(replace(new_job(folders["bert"], tmp_path), say=remarks.append))
        assert remarks == ["resumed at step 7 of 15"]


def forbidden(*arguments: Any) -> Any:
    raise AssertionError("this must not be called")


class TestBestEpoch:
    def scored(
        self, checkpoint: Path, out: Path, scores: list[float], slack: Any = None, **settings: Any
    ) -> tuple[Job[TensorBatch], Progress, list[Weights]]:
        """Train with given dev scores; also the weights after each epoch."""
        job = new_job(checkpoint, out, **settings)
        seen: list[Weights] = []
        given: Iterator[float] = iter(scores)

        def evaluate(model: Any) -> float:
            seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            return next(given)

        return job, train(replace(job, evaluate=evaluate, slack=slack)), seen

    def test_its_weights_are_kept(self, folders: dict[str, Path], tmp_path: Path) -> None:
        job, progress, seen = self.scored(folders["bert"], tmp_path, [0.2, 0.9, 0.5, 0.7], epochs=4)
        assert (progress.best, progress.best_epoch) == (0.9, 1)
        assert same(weights_of(job), seen[1])
        assert not same(seen[1], seen[3])

    def test_the_first_of_equals_is_kept(self, folders: dict[str, Path], tmp_path: Path) -> None:
        job, progress, seen = self.scored(folders["bert"], tmp_path, [0.5, 0.9, 0.9], epochs=3)
        assert progress.best_epoch == 1
        assert same(weights_of(job), seen[1])

    def test_a_later_one_that_is_as_good_is_kept(self, folders: dict[str, Path], tmp_path: Path) -> None:
        job, progress, seen = self.scored(
            folders["bert"], tmp_path, [0.5, 0.9, 0.86, 0.84], slack=lambda top: 0.05 * top, epochs=4
        )
        assert (progress.best, progress.best_epoch, progress.top, progress.top_epoch) == (0.86, 2, 0.9, 1)
        assert same(weights_of(job), seen[2])

    @pytest.mark.parametrize(("patience", "epochs_run"), [(1, 3), (2, 4), (3, 5), (None, 8)])
    def test_patience_ends_the_training(
        self, folders: dict[str, Path], tmp_path: Path, patience: int | None, epochs_run: int
    ) -> None:
        scores = [0.2, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
        _, progress, seen = self.scored(folders["bert"], tmp_path, scores, epochs=8, patience=patience)
        assert len(progress.history) == len(seen) == epochs_run

    def test_a_better_epoch_renews_the_patience(self, folders: dict[str, Path], tmp_path: Path) -> None:
        scores = [0.2, 0.1, 0.3, 0.1, 0.4, 0.1, 0.1, 0.9]
        _, progress, _ = self.scored(folders["bert"], tmp_path, scores, epochs=8, patience=2)
        assert (len(progress.history), progress.best) == (7, 0.4)


class TestAccumulation:
    def test_two_halves_are_like_one_batch(self, folders: dict[str, Path], tmp_path: Path) -> None:
        """Without dropout, four batches of 8 in pairs move the weights as two batches of 16 of the same rows would."""
        whole, halves = (
            new_job(folders["bert"], tmp_path / name, rows=32, epochs=1, batch_size=size, gradient_accumulation=steps)
            for name, size, steps in (("whole", 32, 1), ("halves", 8, 4))
        )
        for job in (whole, halves):
            for module in job.model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            train(job)
        for name, tensor in weights_of(whole).items():
            torch.testing.assert_close(weights_of(halves)[name], tensor, rtol=0, atol=2e-3)

    def test_weights_move_once_a_group(self, folders: dict[str, Path], tmp_path: Path) -> None:
        job = new_job(folders["bert"], tmp_path, rows=48, epochs=1, gradient_accumulation=3)
        name = "classifier.weight"
        moved: list[bool] = []
        last = weights_of(job)[name]

        def report(done: int, total: int, note: str) -> None:
            nonlocal last
            now = weights_of(job)[name]
            moved.append(not torch.equal(now, last))
            last = now

        train(replace(job, report=report))
        assert moved == [False, False, True, False, False, True]

    @pytest.mark.parametrize("steps", [2, 4, 8])
    def test_every_epoch_learns(self, folders: dict[str, Path], tmp_path: Path, steps: int) -> None:
        """Five batches an epoch leave a group incomplete; the learning rate must still last to the last epoch."""
        job = new_job(folders["bert"], tmp_path, epochs=4, gradient_accumulation=steps, warmup=0)
        seen: list[Weights] = []

        def evaluate(model: Any) -> float:
            seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            return 0.5

        train(replace(job, evaluate=evaluate))
        assert [same(a, b) for a, b in zip(seen, seen[1:], strict=False)] == [False, False, False]


class TestBroken:
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_that_is_no_number_stops_the_training(
        self, folders: dict[str, Path], tmp_path: Path, value: float
    ) -> None:
        def breaks(model: Any, batch: TensorBatch, done: float) -> Losses:
            return {"labels": cross_entropy(model, batch, done)["labels"] * value}

        job = new_job(folders["bert"], tmp_path)
        with pytest.raises(FloatingPointError, match=f"the loss became {value}"):
            train(replace(job, loss=breaks))


class TestPrecision:
    def test_auto_is_full_on_a_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert precision_of(FinetuneConfig()) == "no"

    @pytest.mark.parametrize(("half", "word"), [(True, "bf16"), (False, "fp16")])
    def test_auto_is_half_where_the_gpu_has_it(self, monkeypatch: pytest.MonkeyPatch, half: bool, word: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: half)
        assert precision_of(FinetuneConfig()) == word

    @pytest.mark.parametrize(("asked", "word"), [("fp32", "no"), ("bf16", "bf16"), ("fp16", "fp16")])
    def test_what_is_asked_for_is_taken(self, asked: Any, word: str) -> None:
        assert precision_of(FinetuneConfig(precision=asked)) == word

    def test_two_stages_may_differ(self, folders: dict[str, Path], tmp_path: Path) -> None:
        """One process runs all stages of a recipe, each with its own precision."""
        for precision in ("fp32", "bf16", "fp32"):
            job = new_job(folders["bert"], tmp_path / precision, epochs=1, precision=precision)
            assert np.isfinite(train(job).history[0]["loss_total"])
            assert {tensor.dtype for tensor in weights_of(job).values() if tensor.is_floating_point()} == {
                torch.float32
            }


class TestThreads:
    def test_what_is_asked_for_is_taken(self) -> None:
        assert threads.choose_threads(3) == 3

    @pytest.mark.parametrize(
        ("load", "chosen"), [(0.0, 8), (3.9, 8), (4.0, 1), (20.0, 1), (None, 1)], ids=lambda value: str(value)
    )
    def test_auto_is_all_cores_of_an_idle_machine_only(
        self, monkeypatch: pytest.MonkeyPatch, load: float | None, chosen: int
    ) -> None:
        monkeypatch.setattr(threads.os, "cpu_count", lambda: 8)
        monkeypatch.setattr(threads, "load_average", lambda: load)
        assert threads.choose_threads("auto") == chosen

    def test_processes_of_one_run_share_the_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(threads.os, "cpu_count", lambda: 8)
        monkeypatch.setattr(threads, "load_average", lambda: 0.0)
        for processes, chosen in (("2", 4), ("3", 2), ("16", 1)):
            monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
            assert threads.choose_threads("auto") == chosen

    def test_unknown_cores_are_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
        monkeypatch.setattr(threads, "load_average", lambda: 0.0)
        assert threads.choose_threads("auto") == 1


class TestTeacherLogits:
    @pytest.fixture
    def model(self, folders: dict[str, Path]) -> Any:
        return load_classifier(folders["bert"])

    @pytest.fixture
    def encoder(self, folders: dict[str, Path], model: Any) -> Encoder:
        return encoder_of(folders["bert"], model)

    @pytest.fixture
    def rows(self, encoder: Encoder) -> Rows:
        return encode_split(DATA.dev, encoder)

    def test_are_those_of_each_row_alone(self, model: Any, encoder: Encoder, rows: Rows) -> None:
        logits = infer(model, rows, encoder)
        assert logits.shape == (30, 3) and logits.dtype == np.float32
        for k in (0, 7, 29):
            with torch.no_grad():
                alone = model(input_ids=torch.tensor([rows.pieces[k].input_ids])).logits[0].numpy()
            np.testing.assert_allclose(logits[k], alone, atol=1e-5)

    def test_of_a_row_are_the_mean_of_its_pieces(self) -> None:
        rows = Rows([], [], [0, 0, 1, 2, 2, 2])
        logits = np.arange(12, dtype=np.float32).reshape(6, 2)
        assert by_row(logits, rows).tolist() == [[1, 2], [4, 5], [8, 9]]

    def test_are_computed_once(self, model: Any, encoder: Encoder, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        first = cached_logits(lambda: model, Question("teacher", "rows", rows, encoder), silent)
        assert first.kept is None and first.rest is None
        np.testing.assert_array_equal(first.top, infer(model, rows, encoder))
        monkeypatch.setattr(teacher_module, "infer", forbidden)
        again = cached_logits(lambda: model, Question("teacher", "rows", rows, encoder), silent)
        np.testing.assert_array_equal(again.top, first.top)

    def test_second_time_needs_no_model(self, model: Any, encoder: Encoder, rows: Rows) -> None:
        first = cached_logits(lambda: model, Question("teacher", "rows", rows, encoder), silent)
        again = cached_logits(forbidden, Question("teacher", "rows", rows, encoder), silent)
        np.testing.assert_array_equal(again.top, first.top)

    def test_only_the_largest_are_kept(self, model: Any, encoder: Encoder, rows: Rows) -> None:
        """Two of three classes and what the third comes to; a second reading gives the same from the disk."""
        whole = infer(model, rows, encoder)
        for _ in range(2):
            targets = cached_logits(lambda: model, Question("teacher", "rows", rows, encoder, 2, 4.0), silent)
            assert targets.kept is not None and targets.rest is not None
            assert (targets.top.shape, targets.kept.shape, targets.rest.shape) == ((30, 2), (30, 2), (30,))
            np.testing.assert_array_equal(targets.top, -np.sort(-whole, axis=1)[:, :2])
            np.testing.assert_array_equal(np.take_along_axis(whole, np.asarray(targets.kept), axis=1), targets.top)
            np.testing.assert_allclose(targets.rest, whole.min(axis=1) / 4.0, rtol=1e-5)

    def test_all_are_kept_where_there_are_no_more(self, model: Any, encoder: Encoder, rows: Rows) -> None:
        targets = cached_logits(lambda: model, Question("teacher", "rows", rows, encoder, 3, 4.0), silent)
        assert targets.kept is None and targets.top.shape == (30, 3)

    @pytest.mark.parametrize("change", ["teacher", "rows", "count", "max_length", "long_texts", "top_k", "temperature"])
    def test_are_keyed_by_what_they_depend_on(
        self, folders: dict[str, Path], model: Any, encoder: Encoder, rows: Rows, change: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        kept = {"top_k": (1, 2.0), "temperature": (2, 1.0)}.get(change, ())
        cached_logits(lambda: model, Question("teacher", "rows", rows, encoder, *kept), silent)
        runs = 0

        def counted(*arguments: Any) -> Any:
            nonlocal runs
            runs += 1
            return infer(*arguments)

        monkeypatch.setattr(teacher_module, "infer", counted)
        digest, fingerprint = "teacher", "rows"
        match change:
            case "teacher":
                digest = "another"
            case "rows":
                fingerprint = "others"
            case "count":
                rows = Rows(rows.pieces[:20], rows.labels[:20], rows.sources[:20])
            case "max_length":
                encoder = Encoder(folders["bert"], 16)
            case "long_texts":
                encoder = Encoder(folders["bert"], 64, "chunk")
            case "top_k" | "temperature":
                kept = (2, 2.0)
        targets = cached_logits(lambda: model, Question(digest, fingerprint, rows, encoder, *kept), silent)
        assert runs == 1
        assert len(targets.top) == len(rows)

    def test_a_kill_leaves_no_half_file(
        self, model: Any, encoder: Encoder, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(stream: Any, top: Any) -> None:
            stream.write(b"half")
            raise Killed

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(teacher_module.np, "savez", dies)
            cached_logits(lambda: model, Question("teacher", "rows", rows, encoder), silent)
        assert list((tmp_path / "cache").rglob("*.np?")) == []
        assert cached_logits(lambda: model, Question("teacher", "rows", rows, encoder), silent).top.shape == (30, 3)

    def test_a_kill_between_two_files_leaves_nothing_that_looks_whole(
        self, model: Any, encoder: Encoder, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, calls = np.lib.format.write_array_header_1_0, 0

        def dies(stream: Any, head: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise Killed
            real(stream, head)

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(teacher_module.np.lib.format, "write_array_header_1_0", dies)
            cached_logits(lambda: model, Question("teacher", "rows", rows, encoder, 2), silent)
        assert list((tmp_path / "cache").rglob("top.npy")) == []
        targets = cached_logits(lambda: model, Question("teacher", "rows", rows, encoder, 2), silent)
        assert targets.top.shape == (30, 2) and targets.rest is not None

    @pytest.mark.parametrize("top_k", [None, 2])
    def test_in_blocks_they_are_the_same(
        self, model: Any, encoder: Encoder, rows: Rows, top_k: int | None, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """Four blocks of seven rows and one of two; others have written two parts of three, of which one was cut."""
        whole = cached_logits(lambda: model, Question("teacher", "whole", rows, encoder, top_k), silent)
        monkeypatch.setattr(blocks, "LEAST", 7)
        question = Question("teacher", "blocks", rows, encoder, top_k)
        asked: list[range] = []

        def watched(model: Any, rows: Rows, encoder: Encoder, only: range) -> Any:
            if len(asked) == 3:
                raise Killed
            asked.append(only)
            return infer(model, rows, encoder, only)

        with monkeypatch.context() as patched:
            patched.setattr(teacher_module, "infer", watched)
            assert answer(lambda: model, question, silent, Part(2, 3)) == 2
            with pytest.raises(Killed):
                answer(lambda: model, question, silent, Part(1, 3))
            assert asked == [range(7, 14), range(28, 30), range(0, 7)]
            asked.clear()
            joined = cached_logits(lambda: model, question, silent)
            assert asked == [range(14, 21), range(21, 28)]
        assert answer(forbidden, question, silent) == 0
        for name in ("top", "kept", "rest"):
            ours, wanted = getattr(joined, name), getattr(whole, name)
            assert (ours is None) == (wanted is None)
            if ours is not None:
                assert ours.dtype == wanted.dtype
                np.testing.assert_allclose(ours, wanted, atol=1e-5)
        assert {path.suffix for path in question.folder.iterdir()} == {".npy"}

    def test_a_block_that_was_not_copied_whole_is_refused(self, model: Any, encoder: Encoder, rows: Rows) -> None:
        question = Question("teacher", "rows", rows, encoder)
        answer(lambda: model, question, silent)
        (block,) = question.folder.glob("block-*.npz")
        block.write_bytes(block.read_bytes()[:-50])
        with pytest.raises(ArtifactError, match="block-000.npz: damaged; remove it"):
            cached_logits(forbidden, question, silent)

    def test_loss_is_none_where_the_student_agrees(self, model: Any, encoder: Encoder, rows: Rows) -> None:
        whole = torch.from_numpy(infer(model, rows, encoder))
        positions = torch.tensor([4, 0, 17])
        for top_k in (None, 1, 2):
            targets = cached_logits(lambda: model, Question("teacher", "rows", rows, encoder, top_k, 2.0), silent)
            assert targets.loss(whole[positions], positions).item() == pytest.approx(0, abs=1e-5)
            assert targets.loss(whole[positions].flip(1) * 3, positions).item() > 1e-3

    def test_accuracy_counts_rows(self, model: Any, encoder: Encoder, rows: Rows) -> None:
        hits = infer(model, rows, encoder).argmax(axis=1) == np.asarray(rows.labels)
        assert accuracy(model, rows, encoder) == pytest.approx(hits.mean())
