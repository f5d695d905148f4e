"""Prune: remove the least important feed-forward neurons and heads of every layer, then recover by distillation.

What goes, goes for real (see edgetf.models.slicing): smaller dense layers, so any runtime gets the speed. Every layer
keeps the same number, so that uniform widths stay loadable by plain transformers.

Source of the importance: edgetf.algorithms.importance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgetf.algorithms.importance import head_magnitude, most_important, neuron_magnitude, taylor
from edgetf.config.recipe import PruneConfig
from edgetf.core.artifact import Artifact, Spec
from edgetf.models.checkpoint import load_classifier
from edgetf.models.families import family_of
from edgetf.models.slicing import feed_forwards_of, heads_of, layers_of, linear_at, narrow_feed_forward, narrow_heads
from edgetf.models.students import kept_heads, kept_width
from edgetf.runtime.encoder import Encoder
from edgetf.stages.context import Context
from edgetf.stages.fit import fit
from edgetf.stages.objective import distillation_loss
from edgetf.training.batches import encode_split, in_order
from edgetf.training.loop import LossFunction

Unit = tuple[int, str]  # layer, and the path of the projection that reads the units


def run(config: PruneConfig, source: Artifact, context: Context, out: Path) -> tuple[Spec, float]:
    """Prune and recover; gives the spec of the smaller checkpoint and the seconds of training."""
    model = load_classifier(source.path)
    teacher = load_classifier(context.the_teacher().path)
    before = _shape(model)
    importance = measure_importance(model, config, distillation_loss(config, teacher, model, context), context, source)
    narrow(model, config, importance)
    # Anew, because the relations listen to projections that narrowing has replaced.
    loss = distillation_loss(config, teacher, model, context)
    return fit(model, loss, config, source, context, out, {"before": before, "after": _shape(model)})


def _shape(model: Any) -> dict[str, int]:
    layer, part = layers_of(model)[0], feed_forwards_of(model)[0]
    width = linear_at(layer, part.up).out_features
    return {"intermediate_size": width, "num_attention_heads": heads_of(model, layer)}


def readers(model: Any) -> dict[Unit, int]:
    """Every projection that reads prunable units, with the number of units it reads."""
    family = family_of(model.config.model_type)
    found: dict[Unit, int] = {}
    for index, layer in enumerate(layers_of(model)):
        found[(index, family.attention_output)] = heads_of(model, layer)
        for part in feed_forwards_of(model):
            found[(index, part.down)] = linear_at(layer, part.down).in_features
    return found


def measure_importance(
    model: Any, config: PruneConfig, loss: LossFunction, context: Context, source: Artifact
) -> dict[Unit, Tensor]:
    """Importance of every head and neuron, each of shape (units,)."""
    if config.importance == "magnitude":
        return _magnitude(model)
    encoder = context.encoder(source.path, int(model.config.pad_token_id or 0))
    return _taylor(model, config, loss, context, encoder)


def _magnitude(model: Any) -> dict[Unit, Tensor]:
    family, found = family_of(model.config.model_type), {}
    for index, layer in enumerate(layers_of(model)):
        output = linear_at(layer, family.attention_output).weight.detach()
        found[(index, family.attention_output)] = head_magnitude(output, heads_of(model, layer))
        for part in feed_forwards_of(model):
            up, down = (linear_at(layer, path).weight.detach() for path in (part.up, part.down))
            found[(index, part.down)] = neuron_magnitude(up, down)
    return found


def _taylor(
    model: Any, config: PruneConfig, loss: LossFunction, context: Context, encoder: Encoder
) -> dict[Unit, Tensor]:
    """Sum |activation · gradient| over `importance_rows` training rows, in eval mode."""
    units = readers(model)
    sums = {unit: torch.zeros(count) for unit, count in units.items()}
    inputs: dict[Unit, Tensor] = {}
    hooks = []
    for unit in units:
        index, path = unit

        def listen(module: nn.Module, arguments: tuple[Tensor, ...], unit: Unit = unit) -> None:
            arguments[0].retain_grad()
            inputs[unit] = arguments[0]

        hooks.append(layers_of(model)[index].get_submodule(path).register_forward_pre_hook(listen))
    rows = encode_split(context.data.train, encoder)
    wanted = min(config.importance_rows, len(rows))
    chosen = [k * len(rows) // wanted for k in range(wanted)]  # evenly spread, whatever order the rows are in
    model.eval()
    done = 0
    for positions, batch in in_order(rows, encoder, chosen):
        model.zero_grad()
        terms = loss(model, batch)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        for unit, count in units.items():
            gradient = inputs[unit].grad
            if gradient is not None:
                sums[unit] += taylor(inputs[unit].detach(), gradient, count)
        done += len(positions)
        context.report(done, wanted, "importance")
    for hook in hooks:
        hook.remove()
    model.zero_grad()
    return sums


def narrow(model: Any, config: PruneConfig, importance: dict[Unit, Tensor]) -> None:
    """Keep the most important units of every layer."""
    family = family_of(model.config.model_type)
    for index, layer in enumerate(layers_of(model)):
        heads = heads_of(model, layer)
        keep = kept_heads(heads, config.head_ratio)
        if keep < heads:
            best = most_important(importance[(index, family.attention_output)], keep)
            narrow_heads(model, layer, best.tolist())
        for part in feed_forwards_of(model):
            scores = importance[(index, part.down)]
            width = kept_width(len(scores), config.ffn_ratio, config.round_to)
            if width < len(scores):
                narrow_feed_forward(layer, part, most_important(scores, width))
