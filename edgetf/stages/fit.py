"""What every training stage does with a model and a loss: train, save, describe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.config.training import TrainingConfig
from edgetf.core.artifact import Artifact, Spec, key_of
from edgetf.core.errors import ConfigError
from edgetf.core.metrics import Floats
from edgetf.models.checkpoint import WEIGHTS, load_classifier, save_classifier
from edgetf.runtime.encoder import Encoder
from edgetf.stages.context import Context
from edgetf.stages.objective import Objective
from edgetf.tasks import task_of
from edgetf.training.batches import encode_split
from edgetf.training.loop import Job, LossFunction, train
from edgetf.training.teacher import by_row, cached_logits, infer


def fit(
    model: Any,
    loss: LossFunction,
    config: TrainingConfig,
    source: Artifact,
    context: Context,
    out: Path,
    details: dict[str, Any] | None = None,
    objective: Objective | None = None,
) -> tuple[Spec, float]:
    """Train the model and write the checkpoint; gives its spec and the seconds of training.

    It is trained on the training rows, or on those of an objective, as a part of its learner.

    Raises:
        ConfigError: the loss is no longer a number.
    """
    pad_id = int(model.config.pad_token_id or 0)
    encoder = context.encoder(source.path, pad_id)
    exam = dev_exam(context, encoder)
    job = Job(
        model=model if objective is None else objective.learner,
        rows=encode_split(context.data.train, encoder) if objective is None else objective.rows,
        encoder=encoder,
        loss=loss,
        evaluate=lambda trained: exam(model),
        config=config,
        folder=out,
        seed=context.recipe.seed,
        report=context.report,
        say=context.say,
        keep_best=objective is None or objective.answers,
        score_name=task_of(context.recipe.task).dev_name,
    )
    try:
        progress = train(job)
    except FloatingPointError as error:
        raise ConfigError(f"training: {error}; lower learning_rate, got {config.learning_rate:g}") from None
    training = {"history": progress.history, "best_epoch": progress.best_epoch + 1, "resumed": progress.resumed}
    made = _write(model.cpu(), progress.best, source.path, context, out, {"training": training, **(details or {})})
    return made, progress.seconds


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
    targets = cached_logits(
        lambda: load_classifier(teacher.path, head=context.head), teacher.digest, rows, encoder,
        key_of([dev.texts, dev.pairs]), context.report,
    )  # fmt: skip
    return by_row(targets.top, rows)


def _write(model: Any, score: float, tokenizer: Path, context: Context, out: Path, details: dict[str, Any]) -> Spec:
    params = save_classifier(model, out, tokenizer)
    return Spec(
        kind="torch",
        model_file=WEIGHTS,
        params=params,
        metrics=(task_of(context.recipe.task).dev_metric(score, len(context.data.dev)),),
        details={**context.input_details(int(model.config.pad_token_id or 0)), **details},
    )
