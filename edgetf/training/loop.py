"""The training loop of every stage, on accelerate: mixed precision, accumulation, clipping, warm-up, early stopping.

Its state is saved every few seconds into ``checkpoint/`` of the unfinished artifact, so that a killed run goes on at
the step where it was, and ends with the very weights that it would have had.

Several processes share every batch. Each takes some of its rows, and the gradients are summed, weighted so that the sum
is the gradient of the whole batch, however it was split. So their number can change when a run is resumed. A term over
pairs of rows is the exception: the pairs of two processes' rows are left out of it.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor

from edgetf.config.training import TrainingConfig
from edgetf.core.artifact import CHECKPOINT
from edgetf.core.files import guard_disk
from edgetf.core.progress import Report
from edgetf.training import processes
from edgetf.training.material import B, Material
from edgetf.training.threads import choose_threads

Losses = dict[str, Tensor]
LossFunction = Callable[[Any, B, float], Losses]  # model, batch, share of the steps that are done
Counts = Callable[[B], Mapping[str, float]]  # how many things of a batch each term is the mean of


@dataclass
class Progress:
    """How far a training is; this is what a checkpoint remembers beside the tensors."""

    epoch: int = 0
    step: int = 0  # batches of this epoch that are done
    seconds: float = 0.0
    best: float = -1.0  # score of the epoch whose weights are kept
    best_epoch: int = -1
    top: float = -1.0  # the highest score of all
    top_epoch: int = -1
    resumed: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of this epoch's losses
    counts: dict[str, int] = field(default_factory=dict)  # … and of the batches that had each
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Job(Generic[B]):
    """One training: a model, its material, a loss that gives weighted terms by name, and a dev score to maximize."""

    model: Any
    material: Material[B]
    loss: LossFunction[B]
    evaluate: Callable[[Any], float]
    config: TrainingConfig
    folder: Path
    seed: int
    report: Report
    say: Callable[[str], None]
    counts: Counts[B] | None = None  # None: rows, for every term
    keep_best: bool = True  # else the last epoch's weights, where the score says nothing of what is learned
    score_name: str = "dev_accuracy"
    slack: Callable[[float], float] | None = None  # how far under the top score a later epoch is still as good


def precision_of(config: TrainingConfig) -> str:
    """accelerate's word for the precision: half where the hardware has it, unless the recipe says."""
    if config.precision != "auto":
        return {"fp32": "no"}.get(config.precision, config.precision)
    if not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def schedule(updates: int, warmup: float) -> Callable[[int], float]:
    """Factor of the learning rate at update k: up over the share `warmup` of the updates, then down to 0.

    >>> factor = schedule(10, 0.2)
    >>> [factor(k) for k in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rise = round(updates * warmup)

    def factor(k: int) -> float:
        return (k + 1) / rise if k < rise else max(0.0, (updates - k) / max(1, updates - rise))

    return factor


def train(job: Job[B]) -> Progress:
    """Train in place, leave the weights of the best epoch in the model, and say how it went.

    An epoch is as good as the best where its dev score lies within the job's slack; then the later one is kept, whose
    learning rate has come further down: a small dev set's highest score is often only its luckiest.
    """
    return _Run(job).go()


class _Run(Generic[B]):
    """The state of one training."""

    def __init__(self, job: Job[B]) -> None:
        config = job.config
        torch.set_num_threads(choose_threads(config.threads))
        set_seed(job.seed + processes.index())  # each drops out other units
        self.job = job
        AcceleratorState._reset_state()  # each stage of a process has a precision of its own
        self.accelerator = Accelerator(mixed_precision=precision_of(config))
        if config.freeze_embeddings:
            for parameter in job.model.get_input_embeddings().parameters():
                parameter.requires_grad_(False)
        self.order = job.material.order(config.batch_size, job.seed)
        self.per_epoch = len(self.order)
        self.total = max(1, round(config.epochs * self.per_epoch))
        trained = [parameter for parameter in job.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        factor = schedule(self._updates(), config.warmup)
        # In evaluation mode accelerate does not wrap the model to average gradients: `_sum_gradients` does that better.
        self.model = self.accelerator.prepare_model(job.model, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        processes.aligned(self.model.state_dict().values())
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        self.accelerator.register_for_checkpointing(self.schedule)
        self.folder = job.folder / CHECKPOINT
        self.progress = self._resume()
        self.saved_at = time.monotonic()
        self.started = time.monotonic() - self.progress.seconds

    def _updates(self) -> int:
        """Optimizer steps of the whole training; an epoch's last group of batches may be a short one."""
        group = self.job.config.gradient_accumulation
        whole, rest = divmod(self.total, self.per_epoch)
        return whole * math.ceil(self.per_epoch / group) + math.ceil(rest / group)

    def _resume(self) -> Progress:
        # A kill between the two renames of `_save` leaves the newer state under its first name.
        places = [self.folder / name for name in ("state", "new")]
        state = processes.share(next((place for place in places if (place / "progress.json").is_file()), None))
        if state is None:
            return Progress()
        self.accelerator.load_state(str(state))
        progress = Progress(**json.loads((state / "progress.json").read_text()))
        progress.resumed += 1
        done = progress.epoch * self.per_epoch + progress.step
        self.job.say(f"resumed at step {done} of {self.total}")
        return progress

    def go(self) -> Progress:
        progress = self.progress
        while self._begun_epoch() or (self._done() < self.total and not self._out_of_patience()):
            self._epoch()
        best = self.folder / "best.pt"
        self.model.load_state_dict(torch.load(best, map_location="cpu", weights_only=True))
        for parameter in self.model.parameters():
            parameter.requires_grad_(True)
        self.model.eval()
        progress.seconds = time.monotonic() - self.started
        return progress

    def _done(self) -> int:
        return self.progress.epoch * self.per_epoch + self.progress.step

    def _begun_epoch(self) -> bool:
        """Whether some steps of an epoch are done but not yet scored, as after a kill in its evaluation."""
        return self.progress.step > 0

    def _out_of_patience(self) -> bool:
        patience = self.job.config.patience
        return patience is not None and self.progress.epoch - 1 - self.progress.top_epoch >= patience

    def _batches(self) -> Iterator[tuple[list[int], bool]]:
        """The positions of this epoch's remaining batches, each with whether an optimizer step follows it."""
        self.order.set_epoch(self.progress.epoch)
        every = list(self.order)[: self.total - self.progress.epoch * self.per_epoch]
        group = self.job.config.gradient_accumulation
        for number, positions in enumerate(every[self.progress.step :], start=self.progress.step + 1):
            yield positions, number % group == 0 or number == len(every)

    def _epoch(self) -> None:
        progress = self.progress
        self.model.train()
        for positions, update in self._batches():
            self._step(self.job.material.batch(positions), update)
            progress.step += 1
            mean = progress.sums["total"] / progress.counts["total"]
            self.job.report(self._done(), self.total, f"loss {mean:.3f}")
            if update and processes.share(time.monotonic() - self.saved_at > self.job.config.checkpoint_seconds):
                self._save()
        self._end_epoch()

    def _step(self, batch: B, update: bool) -> None:
        """One batch; of several processes, each takes its rows of it."""
        mine = batch.part(processes.index(), processes.count())
        taken = mine if len(mine) else batch.part(0, len(batch))  # a row of no weight, so that all do the same
        terms = self.job.loss(self.model, taken.to(self.accelerator.device), self._done() / self.total)
        terms = self._weighted(terms, mine, batch)
        total = torch.stack(list(terms.values())).sum()
        values = processes.summed(torch.stack([*terms.values(), total]).detach()).tolist()
        if not math.isfinite(values[-1]):
            raise FloatingPointError(f"the loss became {values[-1]}")
        self.accelerator.backward(total / self.job.config.gradient_accumulation)
        if update:
            self._sum_gradients()
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.job.config.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        sums, counts = self.progress.sums, self.progress.counts
        for name, value in zip([*terms, "total"], values, strict=True):
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0) + 1

    def _weighted(self, terms: Losses, mine: B, batch: B) -> Losses:
        """The terms as this process's addends to those of the whole batch."""
        if processes.count() == 1:
            return terms
        rows, shares = len(mine) / len(batch), {}
        if self.job.counts is not None:
            part, whole = self.job.counts(mine), self.job.counts(batch)
            shares = {name: part[name] / max(1.0, whole[name]) for name in whole}
        return {name: term * shares.get(name, rows) for name, term in terms.items()}

    def _sum_gradients(self) -> None:
        """Each process has the gradient of its share of the loss; all get the sum."""
        if processes.count() == 1:
            return
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        flat = processes.summed(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, part in zip(
            gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def _end_epoch(self) -> None:
        progress = self.progress
        score = processes.once(lambda: self.job.evaluate(self.model))
        means = {f"loss_{name}": round(value / progress.counts[name], 5) for name, value in progress.sums.items()}
        progress.history.append({"epoch": progress.epoch + 1, self.job.score_name: score, **means})
        if self._is_kept(score):
            progress.best, progress.best_epoch = score, progress.epoch
            self._write("best.pt", self.model.state_dict())
        progress.epoch += 1
        progress.step = 0
        progress.sums, progress.counts = {}, {}
        self._save()

    def _is_kept(self, score: float) -> bool:
        """Whether this epoch's weights take the place of those before: it is better, or later and as good."""
        progress, slack = self.progress, self.job.slack
        better = progress.top_epoch < 0 or score > progress.top
        if better:
            progress.top, progress.top_epoch = score, progress.epoch
        as_good = slack is not None and score >= progress.top - slack(progress.top)
        return better or as_good or not self.job.keep_best

    def _write(self, name: str, state: Any) -> None:
        if not processes.is_main():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{name}.part"
        with guard_disk(part):
            torch.save(state, part)
            part.replace(self.folder / name)

    def _save(self) -> None:
        """Write the whole state beside the old one, then take its place."""
        new, state = self.folder / "new", self.folder / "state"
        self.progress.seconds = time.monotonic() - self.started
        with guard_disk(new):
            if processes.is_main():
                shutil.rmtree(new, ignore_errors=True)
                new.mkdir(parents=True)
            processes.meet()
            # Of the other processes only their random numbers; safetensors cannot hold tied weights as they are.
            self.accelerator.save_state(str(new), safe_serialization=False)
            processes.meet()
            if processes.is_main():
                (new / "progress.json").write_text(json.dumps(vars(self.progress)))
                shutil.rmtree(state, ignore_errors=True)
                new.rename(state)
        self.saved_at = time.monotonic()
