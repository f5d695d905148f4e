"""The training loop of every stage, on accelerate: mixed precision, accumulation, clipping, warm-up, early stopping.

Its state is saved every few seconds into ``checkpoint/`` of the unfinished artifact, so that a killed run goes on at
the step where it was, and ends with the very weights that it would have had.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor

from edgetf.config.training import TrainingConfig
from edgetf.core.artifact import CHECKPOINT
from edgetf.core.files import guard_disk
from edgetf.core.progress import Report
from edgetf.runtime.encoder import Encoder
from edgetf.training.batches import BucketSampler, Collator, Rows, TensorBatch
from edgetf.training.threads import choose_threads

Losses = dict[str, Tensor]
LossFunction = Callable[[Any, TensorBatch, float], Losses]  # model, batch, share of the steps that are done


@dataclass
class Progress:
    """How far a training is; this is what a checkpoint remembers beside the tensors."""

    epoch: int = 0
    step: int = 0  # batches of this epoch that are done
    seconds: float = 0.0
    best: float = -1.0
    best_epoch: int = -1
    resumed: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of this epoch's losses
    counts: dict[str, int] = field(default_factory=dict)  # … and of the batches that had each
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One training: a model, rows, a loss that gives its weighted terms by name, and a dev score to maximize."""

    model: Any
    rows: Rows
    encoder: Encoder
    loss: LossFunction
    evaluate: Callable[[Any], float]
    config: TrainingConfig
    folder: Path
    seed: int
    report: Report
    say: Callable[[str], None]
    keep_best: bool = True  # else the last epoch's weights, where the score says nothing of what is learned
    score_name: str = "dev_accuracy"


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


def train(job: Job) -> Progress:
    """Train in place, leave the weights of the best epoch in the model, and say how it went."""
    return _Run(job).go()


class _Run:
    """The state of one training."""

    def __init__(self, job: Job) -> None:
        config = job.config
        torch.set_num_threads(choose_threads(config.threads))
        set_seed(job.seed)
        self.job = job
        AcceleratorState._reset_state()  # each stage of a process has a precision of its own
        self.accelerator = Accelerator(mixed_precision=precision_of(config))
        if config.freeze_embeddings:
            for parameter in job.model.get_input_embeddings().parameters():
                parameter.requires_grad_(False)
        self.sampler = BucketSampler(job.rows, config.batch_size, job.seed)
        self.collate = Collator(job.rows, job.encoder)
        self.per_epoch = len(self.sampler)
        self.total = max(1, round(config.epochs * self.per_epoch))
        trained = [parameter for parameter in job.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        factor = schedule(self._updates(), config.warmup)
        self.model, self.optimizer = self.accelerator.prepare(job.model, optimizer)
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
        state = next((self.folder / n for n in ("state", "new") if (self.folder / n / "progress.json").is_file()), None)
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
        model = self.accelerator.unwrap_model(self.model)
        model.load_state_dict(torch.load(best, map_location="cpu", weights_only=True))
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        model.eval()
        progress.seconds = time.monotonic() - self.started
        return progress

    def _done(self) -> int:
        return self.progress.epoch * self.per_epoch + self.progress.step

    def _begun_epoch(self) -> bool:
        """Whether some steps of an epoch are done but not yet scored, as after a kill in its evaluation."""
        return self.progress.step > 0

    def _out_of_patience(self) -> bool:
        patience = self.job.config.patience
        return patience is not None and self.progress.epoch - 1 - self.progress.best_epoch >= patience

    def _batches(self) -> Iterator[tuple[list[int], bool]]:
        """The positions of this epoch's remaining batches, each with whether an optimizer step follows it."""
        self.sampler.set_epoch(self.progress.epoch)
        every = list(self.sampler)[: self.total - self.progress.epoch * self.per_epoch]
        group = self.job.config.gradient_accumulation
        for number, positions in enumerate(every[self.progress.step :], start=self.progress.step + 1):
            yield positions, number % group == 0 or number == len(every)

    def _epoch(self) -> None:
        progress = self.progress
        self.model.train()
        for positions, update in self._batches():
            batch = TensorBatch(**self.collate(positions)).to(self.accelerator.device)
            self._step(batch, update)
            progress.step += 1
            mean = progress.sums["total"] / progress.counts["total"]
            self.job.report(self._done(), self.total, f"loss {mean:.3f}")
            if update and time.monotonic() - self.saved_at > self.job.config.checkpoint_seconds:
                self._save()
        self._end_epoch()

    def _step(self, batch: TensorBatch, update: bool) -> None:
        with contextlib.nullcontext() if update else self.accelerator.no_sync(self.model):
            terms = self.job.loss(self.model, batch, self._done() / self.total)
            total = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(total):
                raise FloatingPointError(f"the loss became {total.item()}")
            self.accelerator.backward(total / self.job.config.gradient_accumulation)
        if update:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.job.config.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        sums, counts = self.progress.sums, self.progress.counts
        for name, term in {**terms, "total": total}.items():
            sums[name] = sums.get(name, 0.0) + term.item()
            counts[name] = counts.get(name, 0) + 1

    def _end_epoch(self) -> None:
        progress = self.progress
        score = self.job.evaluate(self.accelerator.unwrap_model(self.model))
        means = {f"loss_{name}": round(value / progress.counts[name], 5) for name, value in progress.sums.items()}
        progress.history.append({"epoch": progress.epoch + 1, self.job.score_name: score, **means})
        if progress.best_epoch < 0 or score > progress.best or not self.job.keep_best:
            progress.best, progress.best_epoch = score, progress.epoch
            self._write("best.pt", self.accelerator.unwrap_model(self.model).state_dict())
        progress.epoch += 1
        progress.step = 0
        progress.sums, progress.counts = {}, {}
        self._save()

    def _write(self, name: str, state: Any) -> None:
        if not self.accelerator.is_main_process:
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
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            self.accelerator.save_state(str(new))
            (new / "progress.json").write_text(json.dumps(vars(self.progress)))
            shutil.rmtree(state, ignore_errors=True)
            new.rename(state)
        self.saved_at = time.monotonic()
