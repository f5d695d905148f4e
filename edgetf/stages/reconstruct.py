"""Reconstruct: after pruning, solve every projection anew so that the smaller model gives what the whole one gave.

From the bottom up, the output projection of each attention and feed-forward, weights and bias, is the least-squares
solution that maps what the pruned model computes there onto what the whole model has at the same place (ZipLM, Kurtic
et al. 2023), or its units are rescaled by one factor each to the same end (Kwon et al. 2022). The place is the sum
with the residual, before the norm, where the family says where that is: then each part also makes up for what those
below it failed to. A part without units is left with its bias, which becomes the mean of what was wanted.

For each part both models are run again, as far as that part: no more than a batch and the normal equations are kept.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from edgetf.algorithms.reconstruction import Moments, solve_masks, solve_weights
from edgetf.core.artifact import Artifact
from edgetf.models.families import family_of
from edgetf.models.modules import NoAttention
from edgetf.models.slicing import layers_of
from edgetf.stages.context import Context
from edgetf.stages.importance import HIDDEN, Unit
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
    units = sorted(kept, key=lambda unit: (unit[0], unit[1] != family_of(model.config.model_type).attention_output))
    for number, unit in enumerate(units):
        context.report(number, len(units), "reconstruction")
        _solve(model, dense, unit, len(kept[unit]), batches, by)


def _solve(model: Any, dense: Any, unit: Unit, units: int, batches: list[TensorBatch], by: str) -> None:
    """Solve one projection that reads so many `units`."""
    place, whole = _Place(model, unit), _Place(dense, unit)
    reader = place.reader
    inputs = reader.in_features if isinstance(reader, nn.Linear) else 0
    with_bias = by == "weights" or inputs == 0
    moments = Moments.empty(inputs + with_bias, reader.bias.shape[0])
    for batch in batches:
        place.see(batch)
        whole.see(batch)
        missing = whole.sums() - place.residual()
        ones = missing.new_ones(len(missing), int(with_bias))  # their weight is the bias
        activation = torch.cat([place.inputs(), ones], dim=1) if inputs else ones
        moments.add(activation, missing if with_bias else missing - reader.bias)
    place.close()
    whole.close()
    with torch.no_grad():
        if inputs == 0:
            reader.bias.copy_(solve_weights(moments, reader.bias[:, None], 0.0)[:, 0])
        elif by == "factors":
            width = inputs // units
            reader.weight.mul_(solve_masks(moments, reader.weight, width, RIDGE).repeat_interleave(width))
        else:
            solved = solve_weights(moments, torch.cat([reader.weight, reader.bias[:, None]], dim=1), RIDGE)
            reader.weight.copy_(solved[:, :-1])
            reader.bias.copy_(solved[:, -1])


class _EnoughError(Exception):
    """A pass has come as far as it has to."""


class _Place:
    """Listens at the projection that reads some units: what goes in, what comes out, and the sum with the residual."""

    def __init__(self, model: Any, unit: Unit) -> None:
        self._model, self._mask = model, torch.empty(0)
        family, layer = family_of(model.config.model_type), layers_of(model)[unit[0]]
        self.reader: Any = _reader(layer, unit[1])
        self._norms = family.post_norms
        self._latest: dict[str, Tensor] = {}
        self._hooks: list[Any] = [self.reader.register_forward_hook(self._listen)]
        if self._norms is not None:
            attention = unit[1] == family.attention_output
            path = self._norms.attention_norm if attention else self._norms.output_norm
            self._hooks.append(layer.get_submodule(path).register_forward_pre_hook(self._listen_to_sum))

    def _listen(self, module: nn.Module, arguments: tuple[Tensor, ...], output: Any) -> None:
        self._latest["out"] = output[0] if isinstance(output, tuple) else output
        if isinstance(module, nn.Linear):
            self._latest["in"] = arguments[0]
        if self._norms is None:
            raise _EnoughError

    def _listen_to_sum(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self._latest["sum"] = arguments[0]
        raise _EnoughError

    def see(self, batch: TensorBatch) -> None:
        """Run the model on a batch, as far as this place."""
        self._mask = batch.attention_mask.bool()
        with torch.inference_mode(), suppress(_EnoughError):
            self._model(**batch.inputs(takes_token_types(self._model)))

    def inputs(self) -> Tensor:
        """What the projection reads on the real tokens, (tokens, K)."""
        return self._latest["in"][self._mask]

    def sums(self) -> Tensor:
        """What the norm gets on the real tokens, or what the projection gives where there is no such norm."""
        return self._real("out" if self._norms is None else "sum")

    def residual(self) -> Tensor:
        """What of `sums` does not come from the projection."""
        return self.sums() - self._real("out")

    def _real(self, name: str) -> Tensor:
        found = self._latest[name]
        return found.expand(*self._mask.shape, -1)[self._mask]  # a part without units gives one vector for all tokens

    def close(self) -> None:
        """Stop listening."""
        for hook in self._hooks:
            hook.remove()


def _reader(layer: nn.Module, path: str) -> nn.Module:
    """The projection at a path, or what stands for the attention that held it."""
    module = layer
    for name in path.split("."):
        if isinstance(module, NoAttention):
            break
        module = module.get_submodule(name)
    return module
