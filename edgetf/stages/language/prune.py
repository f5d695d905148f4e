"""Prune: remove the layers, KV groups, heads, neurons and hidden width that do least, then recover by distillation.

Layers go first, by their influence on the residual stream (ShortGPT, Men et al. 2024); then the others are asked in
what is left, and go at once (Minitron, Muralidharan et al. 2024). Every layer loses as many, so that a plain Hugging
Face folder holds the rest and any runtime gets the speed. The teacher, with the student's vocabulary, is the tutor of
the recovery.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from edgetf.algorithms.importance import most_important
from edgetf.config.language.models import LikeTeacher
from edgetf.config.language.stages import LanguagePruneConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.data.corpus.blocks import Blocks, pack
from edgetf.models.decoders.checkpoint import load_decoder
from edgetf.models.decoders.facts import decoder_facts
from edgetf.models.decoders.shapes import DecoderShape, pruned_shape, shape_of
from edgetf.models.decoders.slicing import KeptUnits, keep_layers, narrow
from edgetf.models.decoders.students import build_student
from edgetf.stages.language.context import LanguageContext
from edgetf.stages.language.influence import Importance, influences, measure, norm_factors
from edgetf.stages.language.learn import learn


def run(config: LanguagePruneConfig, source: Artifact, context: LanguageContext, out: Path) -> tuple[Spec, float]:
    """Prune and recover; gives the spec of the smaller checkpoint and the seconds it took.

    Raises:
        ConfigError: no plain folder could hold what the ratios leave, or the student has more layers than there are.
        DataError: the texts do not fill one sequence.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    model, student = load_decoder(source.path), context.recipe.student
    if isinstance(student, LikeTeacher) and student.num_hidden_layers is not None:
        model = build_student(student, model, int(model.config.vocab_size), context.recipe.data.max_length)
    before = shape_of(model.config)
    after = pruned_shape(model.config.model_type, before, config)
    blocks = calibration(source.path, context, config.importance_sequences)
    smaller, details = pruned(model, after, blocks, config, context)
    details |= {"before": asdict(before), "after": asdict(after)}
    spec, _ = learn(smaller, config, source.path, context, out, details)
    return spec, time.monotonic() - started


def calibration(folder: Path, context: LanguageContext, sequences: int) -> Blocks:
    """Evenly spread blocks (N, T) of the training documents."""
    data = context.recipe.data
    blocks = pack(context.corpus.train, folder, decoder_facts(folder), data.max_length)
    wanted = min(sequences, len(blocks))
    return np.ascontiguousarray(blocks[np.arange(wanted) * len(blocks) // wanted])


def pruned(
    model: Any, shape: DecoderShape, blocks: Blocks, config: LanguagePruneConfig, context: LanguageContext
) -> tuple[Any, dict[str, Any]]:
    """A model of this shape, and what was learned on the way."""
    details: dict[str, Any] = {}
    if shape.layers < shape_of(model.config).layers:
        found = influences(model, blocks, context.report)
        kept = strongest(found, shape.layers)
        model = keep_layers(model, kept)
        details |= {"layers": kept, "influence": [round(value, 6) for value in found]}
    left = shape_of(model.config)
    if left == shape:
        return model, details
    importance = measure(model, config.importance, blocks, context.recipe.seed, context.report)
    hidden = most_important(importance.hidden, shape.hidden)
    factors = {} if len(hidden) == len(importance.hidden) else norm_factors(model, hidden, blocks, context.report)
    return narrow(model, chosen(importance, left, shape), hidden.tolist(), factors), details


def strongest(influence: list[float], keep: int) -> list[int]:
    """The layers of the most influence, bottom first; of equals the lower.

    >>> strongest([0.3, 0.1, 0.2, 0.1], 3)
    [0, 1, 2]
    """
    order = sorted(range(len(influence)), key=lambda layer: (-influence[layer], layer))
    return sorted(order[:keep])


def chosen(importance: Importance, before: DecoderShape, after: DecoderShape) -> list[KeptUnits]:
    """The units of every layer that stay: the most important groups, of each its most important heads, and neurons."""
    return [
        KeptUnits(kept_groups(heads, before.groups, after), most_important(neurons, after.neurons).tolist())
        for heads, neurons in zip(importance.heads, importance.neurons, strict=True)
    ]


def kept_groups(heads: Tensor, groups: int, after: DecoderShape) -> dict[int, list[int]]:
    """The groups that stay, and of each the query heads, by the importance of these (A,); a group's is their sum.

    >>> import torch
    >>> kept_groups(torch.tensor([0.1, 0.2, 0.9, 0.3, 0.5, 0.6]), 3, DecoderShape(1, 2, 1, 8, 8))
    {1: [2], 2: [5]}
    """
    scores = heads.view(groups, -1)
    per_group = scores.shape[1]
    return {
        group: [group * per_group + head for head in most_important(scores[group], after.heads).tolist()]
        for group in most_important(scores.sum(dim=1), after.groups).tolist()
    }
