"""What every training stage does with a model and a loss: train, save, describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.config.recipe import TrainingConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.core.errors import ConfigError
from edgetf.core.metrics import Metric, wilson
from edgetf.models.checkpoint import WEIGHTS, save_classifier
from edgetf.stages.context import Context
from edgetf.training.batches import encode_split
from edgetf.training.loop import Job, LossFunction, train
from edgetf.training.teacher import accuracy


def fit(
    model: Any,
    loss: LossFunction,
    config: TrainingConfig,
    source: Artifact,
    context: Context,
    out: Path,
    details: dict[str, Any] | None = None,
) -> tuple[Spec, float]:
    """Train the model on the training rows and write the checkpoint; gives its spec and the seconds of training.

    Raises:
        ConfigError: the loss is no longer a number.
    """
    pad_id = int(model.config.pad_token_id or 0)
    encoder = context.encoder(source.path, pad_id)
    dev = encode_split(context.data.dev, encoder)
    job = Job(
        model=model,
        rows=encode_split(context.data.train, encoder),
        encoder=encoder,
        loss=loss,
        evaluate=lambda trained: accuracy(trained, dev, encoder),
        config=config,
        folder=out,
        seed=context.recipe.seed,
        report=context.report,
        say=context.say,
    )
    try:
        progress = train(job)
    except FloatingPointError as error:
        raise ConfigError(f"training: {error}; lower learning_rate, got {config.learning_rate:g}") from None
    model = model.cpu()
    params = save_classifier(model, out, source.path)
    n = len(context.data.dev)
    dev_accuracy = Metric("dev_accuracy", progress.best, n=n, ci95=wilson(round(progress.best * n), n))
    training = {"history": progress.history, "best_epoch": progress.best_epoch + 1, "resumed": progress.resumed}
    spec = Spec(
        kind="torch",
        model_file=WEIGHTS,
        params=params,
        metrics=(dev_accuracy,),
        details={**context.input_details(pad_id), "training": training, **(details or {})},
    )
    return spec, progress.seconds
