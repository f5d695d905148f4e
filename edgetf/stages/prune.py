"""Prune: remove the least important heads, neurons and hidden dimensions, then recover by distillation.

What goes, goes for real (see edgetf.models.slicing): smaller dense layers, so any runtime gets the speed. Either every
layer loses the same share, and uniform widths stay loadable by plain transformers; or a search chooses the shape of
every layer that keeps most importance under a target of weights, multiply-accumulates or measured latency.

Sources: edgetf.algorithms.importance, .search and .reconstruction. Pruning in rounds with distillation in between is
how ZipLM (Kurtic et al. 2023) and CoFi (Xia et al. 2022) reach small models; ZipLM also makes a family of them in one
go, each from the one before. The cubic schedule of the rounds is that of Zhu & Gupta (2017), as in oBERT (Kurtic et
al. 2022).
"""

from __future__ import annotations

import copy
import shutil
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from edgetf.algorithms.search import joint_losses, separate_losses
from edgetf.config.stages import PruneConfig
from edgetf.core.artifact import CHECKPOINT, Artifact, Spec
from edgetf.core.files import read_json, write_json
from edgetf.models.checkpoint import load_classifier, save_classifier
from edgetf.models.families.family import Shape
from edgetf.models.slicing import model_shape
from edgetf.models.students import pruned_shape
from edgetf.stages.context import Context
from edgetf.stages.deployment import Deployment
from edgetf.stages.fit import fit, untrained
from edgetf.stages.importance import Unit, gradients, measure
from edgetf.stages.reconstruct import reconstruct
from edgetf.stages.shrink import choose, narrow
from edgetf.stages.target import Losses, Search, keep_together

DONE = "done.json"  # what a search found, written last


def run(
    config: PruneConfig,
    source: Artifact,
    context: Context,
    out: Path,
    deployment: Deployment,
    dense: Artifact | None = None,
) -> tuple[Spec, float]:
    """Prune and recover, in rounds; gives the spec of the smaller checkpoint and the seconds it took.

    A member of a family goes on from `source`, the member before it, but its target is a share of the `dense` model.
    What matters is asked anew each time: a model that has lost units and recovered uses the others differently.
    """
    started = time.monotonic()
    model = load_classifier(source.path, head=context.head)
    whole = model if dense is None else load_classifier(dense.path, head=context.head)
    before = model_shape(whole)
    details: dict[str, Any] = {"before": asdict(before)}
    start = model_shape(model)
    with _search(config, whole, start, deployment, context) as search:
        del whole
        for number in range(1, config.rounds):
            folder = out / CHECKPOINT / f"round-{number}"
            if not (folder / DONE).is_file():
                model = _pruned(model, before, search, number, config, source, context, out)
                _recover(model, config, source, context, folder, details)
                shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
                write_json(folder / DONE, {})
            model = load_classifier(folder, head=context.head)
        model = _pruned(model, before, search, config.rounds, config, source, context, out)
    if search and (remark := search.remark()):
        context.say(remark)  # before the training, which may take hours
    if search and dense and model_shape(model) == start:
        context.say(f"prune: nothing was removed for {search.found['target']}: the member before costs no more already")
    details |= {"after": asdict(model_shape(model)), **({"search": search.found} if search else {})}
    return _recover(model, config, source, context, out, details), time.monotonic() - started


def _search(
    config: PruneConfig, dense: Any, start: Shape, deployment: Deployment, context: Context
) -> AbstractContextManager[Search | None]:
    return Search(config, dense, deployment, context.report, start) if config.target else nullcontext()


def _pruned(
    model: Any, before: Shape, search: Search | None, number: int, config: PruneConfig, source: Artifact,
    context: Context, out: Path,
) -> Any:  # fmt: skip
    """The model after this round's pruning, kept beside the training state so that a killed run finds it again."""
    folder = out / CHECKPOINT / f"pruned-{number}"
    if not (folder / DONE).is_file():
        dense = copy.deepcopy(model) if config.reconstruct else None
        importance, pulls = _importance(model, config, source, context)
        share = share_behind(number, config.rounds, config.schedule)
        if search:
            shape = search.shape(model, share, importance, _losses(config, importance, pulls))
        else:
            shape = _between(before, config, share)
        kept = choose(model, shape, importance)
        if config.rearrange:
            kept = keep_together(kept, pulls)
        with torch.no_grad():
            narrow(model, kept)
        if dense is not None:
            reconstruct(model, dense, kept, context, source, config.importance_rows, config.reconstruct_by)
        save_classifier(model, folder, source.path)
        write_json(folder / DONE, search.found if search else {})
    elif search:
        search.found |= read_json(folder / DONE)
    return load_classifier(folder, head=context.head)


def share_behind(number: int, rounds: int, schedule: Literal["linear", "cubic"]) -> float:
    """The share of the way that is behind after round `number` of `rounds`: k / n, or 1 - (1 - k / n)³.

    The cubic one takes most while there is much to take, and leaves small steps for the end, where each one costs
    more. With ratios the way is the share that is removed, with a target the logarithm of the cost.

    >>> [share_behind(k, 4, "linear") for k in range(5)]
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> [share_behind(k, 4, "cubic") for k in range(5)]
    [0.0, 0.578125, 0.875, 0.984375, 1.0]
    """
    gone = number / rounds
    return gone if schedule == "linear" else 1 - (1 - gone) ** 3


def _importance(
    model: Any, config: PruneConfig, source: Artifact, context: Context
) -> tuple[dict[Unit, torch.Tensor], dict[Unit, torch.Tensor]]:
    """The importance (U,) of all units, and the gradients (N, U) by their masks where something asks for them."""
    rows, asked = config.importance_rows, config.rearrange or config.importance in ("taylor", "fisher")
    pulls = gradients(model, context, source, rows) if asked else {}
    importance = measure(model, config.importance, context, source, rows, pulls)
    if config.target and config.importance in ("random", "magnitude"):  # heads and neurons have no common scale there
        importance = {unit: scores / scores.sum() for unit, scores in importance.items()}
    return importance, pulls


def _losses(config: PruneConfig, importance: dict[Unit, torch.Tensor], pulls: dict[Unit, torch.Tensor]) -> Losses:
    """What is lost by the number of units that a part loses; Fisher information also says what they do together."""
    if config.importance == "fisher":
        return {unit: joint_losses(found.numpy()) for unit, found in pulls.items()}
    return {unit: separate_losses(scores.double().numpy()) for unit, scores in importance.items()}


def _between(before: Shape, config: PruneConfig, share: float) -> Shape:
    """The shape after this share of the pruning."""
    ratios = {name: getattr(config, name) * share for name in ("ffn_ratio", "head_ratio", "hidden_ratio")}
    return pruned_shape(before, config.model_copy(update=ratios))


def _recover(
    model: Any, config: PruneConfig, source: Artifact, context: Context, out: Path, details: dict[str, Any]
) -> Spec:
    """Distill for this round's share of the epochs, or leave the model as it is where there are none."""
    if config.epochs == 0:
        return untrained(model, source.path, context, out, details)
    training = config.model_copy(update={"epochs": config.epochs / config.rounds})
    spec, _ = fit(model, training, source, context, out, details)
    return spec
