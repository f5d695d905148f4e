"""What every training stage does with a model and a loss: train, save, describe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.config.training import LossConfig, TrainingConfig
from edgetf.core.artifact import Artifact, Spec, key_of
from edgetf.core.errors import ConfigError
from edgetf.core.metrics import Floats
from edgetf.core.task_names import TaskName
from edgetf.models.checkpoint import WEIGHTS, save_classifier
from edgetf.runtime.encoder import Encoder
from edgetf.stages.context import Context
from edgetf.stages.objective import Objective
from edgetf.stages.outputs import Tutor
from edgetf.tasks import task_of
from edgetf.training import processes
from edgetf.training.batches import Encoded, TensorBatch, encode_split
from edgetf.training.lessons import label_loss
from edgetf.training.loop import Job, Losses, LossFunction, Progress, train
from edgetf.training.teacher import Question, by_row, cached_logits, infer, takes_token_types


def fit(
    model: Any,
    config: TrainingConfig,
    source: Artifact,
    context: Context,
    out: Path,
    details: dict[str, Any] | None = None,
) -> tuple[Spec, float]:
    """Train the model, in all processes, and write the checkpoint; gives its spec and the seconds of training.

    Raises:
        ConfigError: the loss is no longer a number.
    """
    progress = processes.call(learn, model, config, source, context, out)
    made = _write(model.cpu(), progress.best, source.path, context, out, {**account(progress), **(details or {})})
    return made, progress.seconds


def account(progress: Progress) -> dict[str, Any]:
    """What a checkpoint's details say of its training."""
    training = {"history": progress.history, "best_epoch": progress.best_epoch + 1, "resumed": progress.resumed}
    return {"training": training}


def learn(model: Any, config: TrainingConfig, source: Artifact, context: Context, out: Path) -> Progress:
    """Train the model in place: on the rows and for the objective of a distillation, else on the labels."""
    encoder = context.encoder(source.path, int(model.config.pad_token_id or 0))
    exam, task = dev_exam(context, encoder), task_of(context.recipe.task)
    objective = Objective(config, model, source, context) if isinstance(config, LossConfig) else None
    job = Job(
        model=model if objective is None else objective.learner,
        material=Encoded(encode_split(context.data.train, encoder) if objective is None else objective.rows, encoder),
        loss=_labels(context.recipe.task) if objective is None else objective.loss,
        evaluate=lambda trained: exam(model),
        config=config,
        folder=out,
        seed=context.recipe.seed,
        report=context.report,
        say=context.say,
        counts=_labels_of if objective is None else objective.counts,
        keep_best=objective is None or objective.answers,
        score_name=task.dev_name,
        slack=partial(_standard_error, len(context.data.dev)) if task.counts_rows else None,
    )
    try:
        return train(job)
    except FloatingPointError as error:
        raise ConfigError(f"training: {error}; lower learning_rate, got {config.learning_rate:g}") from None
    finally:
        if objective is not None:
            objective.close()


def _labels(task: TaskName) -> LossFunction[TensorBatch]:
    """The loss of a model that learns from the labels alone."""

    def loss(model: Any, batch: TensorBatch, done: float) -> Losses:
        answers = batch.answers(model(**batch.inputs(takes_token_types(model))).logits)
        return {"labels": label_loss(task, answers, batch.labels)}

    return loss


def _standard_error(n: int, share: float) -> float:
    """Of a share of n rows: one below the best is as good (Breiman et al. 1984, the rule of one standard error).

    >>> round(_standard_error(500, 0.9), 4)
    0.0134
    """
    return float(np.sqrt(max(0.0, share * (1 - share)) / n))


def _labels_of(batch: TensorBatch) -> dict[str, float]:
    """How many labels a batch has, a text's or a word's each; every row of a fine-tuning has them."""
    return {"labels": float(len(batch.labels))}


def untrained(model: Any, tokenizer: Path, context: Context, out: Path, details: dict[str, Any]) -> Spec:
    """Write a checkpoint as it is, with the tokenizer of a folder; gives its spec with the dev score."""
    encoder = context.encoder(tokenizer, int(model.config.pad_token_id or 0))
    score = dev_exam(context, encoder)(model)
    return _write(model, score, tokenizer, context, out, details)


def dev_exam(context: Context, encoder: Encoder) -> Callable[[Any], float]:
    """What gives a model its score on the dev rows: higher is better."""
    dev, names = context.data.dev, context.data.label_names
    rows, task = encode_split(dev, encoder), task_of(context.recipe.task)
    labels = dev.labels if task.labelled else _teacher_answers(context)

    def exam(model: Any) -> float:
        return task.score(np.asarray(by_row(infer(model, rows, encoder), rows)), labels, names)

    return exam


def _teacher_answers(context: Context) -> Floats:
    """What the teacher says of the dev rows, (N, C)."""
    teacher, dev = context.the_teacher(), context.data.dev
    encoder = context.encoder(teacher.path, teacher.spec.details["pad_id"])
    rows = encode_split(dev, encoder)
    asked = Tutor(teacher, context.head)
    question = Question(asked.fingerprint, key_of([dev.texts, dev.pairs]), rows, encoder)
    return by_row(cached_logits(lambda: asked.model, question, context.report).top, rows)


def _write(model: Any, score: float, tokenizer: Path, context: Context, out: Path, details: dict[str, Any]) -> Spec:
    params = save_classifier(model, out, tokenizer)
    return Spec(
        kind="torch",
        model_file=WEIGHTS,
        params=params,
        metrics=(task_of(context.recipe.task).dev_metric(score, len(context.data.dev)),),
        details={**context.input_details(int(model.config.pad_token_id or 0)), **details},
    )
