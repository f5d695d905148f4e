"""What every training stage does with a model and a loss: train, save, describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.nn import functional as F

from edgetf.config.training import LossConfig, TrainingConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.errors import ConfigError
from edgetf.core.metrics import Metric, wilson
from edgetf.models.checkpoint import WEIGHTS, save_classifier
from edgetf.stages.context import Context
from edgetf.stages.objective import Objective
from edgetf.training import processes
from edgetf.training.batches import TensorBatch, encode_split
from edgetf.training.loop import Job, Losses, Progress, train
from edgetf.training.teacher import accuracy, takes_token_types


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
    training = {"history": progress.history, "best_epoch": progress.best_epoch + 1, "resumed": progress.resumed}
    made = _write(model.cpu(), progress.best, source.path, context, out, {"training": training, **(details or {})})
    return made, progress.seconds


def learn(model: Any, config: TrainingConfig, source: Artifact, context: Context, out: Path) -> Progress:
    """Train the model in place: on the rows and for the objective of a distillation, else on the labels."""
    encoder = context.encoder(source.path, int(model.config.pad_token_id or 0))
    dev = encode_split(context.data.dev, encoder)
    objective = Objective(config, model, source, context) if isinstance(config, LossConfig) else None
    job = Job(
        model=model if objective is None else objective.learner,
        rows=encode_split(context.data.train, encoder) if objective is None else objective.rows,
        encoder=encoder,
        loss=_label_loss if objective is None else objective.loss,
        evaluate=lambda trained: accuracy(model, dev, encoder),
        config=config,
        folder=out,
        seed=context.recipe.seed,
        report=context.report,
        say=context.say,
        counts=None if objective is None else objective.counts,
        keep_best=objective is None or objective.answers,
    )
    try:
        return train(job)
    except FloatingPointError as error:
        raise ConfigError(f"training: {error}; lower learning_rate, got {config.learning_rate:g}") from None
    finally:
        if objective is not None:
            objective.close()


def _label_loss(model: Any, batch: TensorBatch, done: float) -> Losses:
    logits = model(**batch.inputs(takes_token_types(model))).logits
    return {"labels": F.cross_entropy(logits, batch.labels)}


def untrained(model: Any, tokenizer: Path, context: Context, out: Path, details: dict[str, Any]) -> Spec:
    """Write a checkpoint as it is, with the tokenizer of a folder; gives its spec with the dev accuracy."""
    encoder = context.encoder(tokenizer, int(model.config.pad_token_id or 0))
    share = accuracy(model, encode_split(context.data.dev, encoder), encoder)
    return _write(model, share, tokenizer, context, out, details)


def _write(model: Any, share: float, tokenizer: Path, context: Context, out: Path, details: dict[str, Any]) -> Spec:
    params = save_classifier(model, out, tokenizer)
    n = len(context.data.dev)
    dev_accuracy = Metric("dev_accuracy", share, n=n, ci95=wilson(round(share * n), n))
    return Spec(
        kind="torch",
        model_file=WEIGHTS,
        params=params,
        metrics=(dev_accuracy,),
        details={**context.input_details(int(model.config.pad_token_id or 0)), **details},
    )
