"""Fine-tune: give the teacher a head for the task, by the task's loss on the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from edgetf.config.stages import FinetuneConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.models.checkpoint import load_classifier
from edgetf.stages.context import Context
from edgetf.stages.fit import fit
from edgetf.training.batches import TensorBatch
from edgetf.training.lessons import label_loss
from edgetf.training.loop import Losses
from edgetf.training.teacher import takes_token_types


def run(config: FinetuneConfig, source: Artifact, context: Context, out: Path) -> tuple[Spec, float]:
    """Train the source's encoder and a head on the training rows; gives the spec and the seconds of training."""
    set_seed(context.recipe.seed)  # a new head starts at random
    model, task = load_classifier(source.path, context.data.label_names, context.head), context.recipe.task
    token_types = takes_token_types(model)

    def loss(model: Any, batch: TensorBatch, done: float) -> Losses:
        answers = batch.answers(model(**batch.inputs(token_types)).logits)
        return {"labels": label_loss(task, answers, batch.labels)}

    return fit(model, loss, config, source, context, out)
