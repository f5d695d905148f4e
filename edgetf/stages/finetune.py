"""Fine-tune: give the teacher a head for the task, by the task's loss on the labels."""

from __future__ import annotations

from pathlib import Path

from accelerate.utils import set_seed

from edgetf.config.stages import FinetuneConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.models.checkpoint import load_classifier
from edgetf.stages.context import Context
from edgetf.stages.fit import fit


def run(config: FinetuneConfig, source: Artifact, context: Context, out: Path) -> tuple[Spec, float]:
    """Train the source's encoder and a head on the training rows; gives the spec and the seconds of training."""
    set_seed(context.recipe.seed)  # a new head starts at random
    model = load_classifier(source.path, context.data.label_names, context.head)
    return fit(model, config, source, context, out)
