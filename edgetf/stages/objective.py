"""The distillation objective of a recipe: weighted terms from the teacher's cached logits, relations and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgetf.algorithms.distillation import relation_loss, soft_logits_loss
from edgetf.config.recipe import LossConfig
from edgetf.core.errors import ConfigError
from edgetf.models.families import family_of
from edgetf.models.slicing import layers_of, linear_at
from edgetf.stages.context import Context
from edgetf.training.batches import TensorBatch, encode_split
from edgetf.training.loop import Losses, LossFunction
from edgetf.training.teacher import cached_logits, takes_token_types

Kinds = ("query", "key", "value")


class Relations:
    """Listens to the query, key and value projections of one layer."""

    def __init__(self, model: Any, layer: int, heads: int) -> None:
        family = family_of(model.config.model_type)
        self.states: dict[str, Tensor] = {}
        layers = layers_of(model)
        if not -len(layers) <= layer < len(layers):
            raise ConfigError(f"relation_layer: got {layer}, allowed: {-len(layers)} to {len(layers) - 1}")
        chosen = layers[layer]
        for kind, path in zip(Kinds, (family.query, family.key, family.value), strict=True):
            projection = linear_at(chosen, path)
            if projection.out_features % heads:
                raise ConfigError(
                    f"relation_heads: got {heads}, which does not divide a width of {projection.out_features}; "
                    f"allowed here: a divisor of it"
                )
            projection.register_forward_hook(self._listener(kind))

    def _listener(self, kind: str) -> Callable[[Any, Any, Tensor], None]:
        def listen(module: Any, inputs: Any, output: Tensor) -> None:
            self.states[kind] = output

        return listen


def distillation_loss(config: LossConfig, teacher: Any, student: Any, context: Context) -> LossFunction:
    """The loss as the recipe weighs it. A term of weight 0 is not computed, nor the teacher run for it."""
    pad_id = int(teacher.config.pad_token_id or 0)
    source = context.the_teacher()
    encoder = context.encoder(source.path, pad_id)
    rows = encode_split(context.data.train, encoder)
    soft: np.ndarray[Any, np.dtype[np.float32]] | None = None
    if config.logits > 0:
        soft = cached_logits(teacher, source.digest, rows, encoder, context.data.fingerprint, context.report)
    theirs = ours = None
    if config.relations > 0:
        theirs = Relations(teacher, config.relation_layer, config.relation_heads)
        ours = Relations(student, -1, config.relation_heads)
    student_types, teacher_types = takes_token_types(student), takes_token_types(teacher)

    def loss(model: Any, batch: TensorBatch) -> Losses:
        logits = model(**batch.inputs(student_types)).logits
        terms: Losses = {}
        if soft is not None:
            target = torch.from_numpy(soft[batch.positions.cpu().numpy()]).to(logits.device)
            terms["logits"] = config.logits * soft_logits_loss(logits.float(), target, config.temperature)
        if config.labels > 0:
            terms["labels"] = config.labels * F.cross_entropy(logits.float(), batch.labels)
        if theirs is not None and ours is not None:
            with torch.no_grad():
                teacher.to(logits.device)(**batch.inputs(teacher_types))
            kinds = [
                relation_loss(ours.states[kind], theirs.states[kind], config.relation_heads, batch.attention_mask)
                for kind in Kinds
            ]
            terms["relations"] = config.relations * torch.stack(kinds).mean()
        return terms

    return loss
