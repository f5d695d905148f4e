"""Reconstruct: after pruning, solve every projection anew so that the smaller model gives what the whole one gave.

From the bottom up, the output projection of each attention and feed-forward is the least-squares solution that maps
what the pruned model computes there onto the output that the whole model has at the same place (ZipLM, Kurtic et al.
2023), or its units are rescaled by one factor each to the same end (Kwon et al. 2022). Going upwards, later parts make
up for the errors of earlier ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgetf.algorithms.reconstruction import Moments, solve_masks, solve_weights
from edgetf.core.artifact import Artifact
from edgetf.models.slicing import layers_of
from edgetf.stages.context import Context
from edgetf.stages.importance import HIDDEN, Unit, readers
from edgetf.stages.shrink import Kept
from edgetf.training.batches import TensorBatch, encode_split, in_order
from edgetf.training.teacher import takes_token_types

RIDGE = 1e-3


def reconstruct(
    model: Any, dense: Any, kept: Kept, context: Context, source: Artifact, rows: int, by: str = "weights"
) -> None:
    """Solve the projections of `model` in place, so that it answers `rows` training rows like `dense` does.

    `by` is weights, for whole projections, or factors, for one number a unit.
    """
    if HIDDEN in kept:
        raise ValueError("a narrower hidden state has no output of the whole model to be held against")
    encoder = context.encoder(source.path, int(model.config.pad_token_id or 0))
    encoded = encode_split(context.data.train, encoder)
    wanted = min(rows, len(encoded))
    batches = [batch for _, batch in in_order(encoded, encoder, [k * len(encoded) // wanted for k in range(wanted)])]
    count = readers(model)
    units = [unit for unit in sorted(count, key=lambda unit: unit[0]) if unit in kept]
    targets = _outputs(dense, units, batches)
    for number, unit in enumerate(units):
        context.report(number, len(units), "reconstruction")
        reader = layers_of(model)[unit[0]].get_submodule(unit[1])
        if not isinstance(reader, nn.Linear):
            continue
        moments = Moments.empty(reader.in_features, reader.out_features)
        inputs: list[Tensor] = []
        hook = reader.register_forward_pre_hook(lambda module, arguments, inputs=inputs: inputs.append(arguments[0]))
        with torch.inference_mode():
            for batch, output in zip(batches, targets[unit], strict=True):
                inputs.clear()
                model(**batch.inputs(takes_token_types(model)))
                real = batch.attention_mask.bool()
                moments.add(inputs[0][real], output - reader.bias)
        hook.remove()
        with torch.no_grad():
            if by == "factors":
                width = reader.in_features // count[unit]
                factors = solve_masks(moments, reader.weight, width, RIDGE)
                reader.weight.mul_(factors.repeat_interleave(width))
            else:
                reader.weight.copy_(solve_weights(moments, reader.weight, RIDGE))


def _outputs(dense: Any, units: list[Unit], batches: list[TensorBatch]) -> dict[Unit, list[Tensor]]:
    """What the whole model's projections give on the real tokens of every batch, (tokens, H) each."""
    found: dict[Unit, list[Tensor]] = {unit: [] for unit in units}
    latest: dict[Unit, Tensor] = {}

    def listen(unit: Unit) -> Any:
        return lambda module, arguments, output: latest.update({unit: output})

    hooks = [layers_of(dense)[unit[0]].get_submodule(unit[1]).register_forward_hook(listen(unit)) for unit in units]
    with torch.inference_mode():
        for batch in batches:
            dense(**batch.inputs(takes_token_types(dense)))
            for unit in units:
                found[unit].append(latest[unit][batch.attention_mask.bool()])
    for hook in hooks:
        hook.remove()
    return found
