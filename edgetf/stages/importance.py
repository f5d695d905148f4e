"""How much every head, neuron and hidden dimension of a model matters: by its weights, or asking the training rows.

A unit is multiplied by a mask of 1; the gradient of a row's loss by that mask is the sum over tokens of activation
times gradient. Taylor importance is the sum of its absolute values over rows, Fisher the mean of its squares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgetf.algorithms.importance import head_magnitude, mask_gradients, neuron_magnitude
from edgetf.algorithms.search import fisher
from edgetf.core.artifact import Artifact
from edgetf.models.families import family_of
from edgetf.models.slicing import feed_forwards_of, heads_of, layers_of, linear_at, matching, neurons_of, word_table
from edgetf.stages.context import Context
from edgetf.training.batches import encode_split, in_order
from edgetf.training.lessons import probe_loss
from edgetf.training.teacher import takes_token_types
from edgetf.training.threads import choose_threads

Unit = tuple[int, str]  # layer, and the path of the projection that reads the units
Kind = Literal["random", "magnitude", "taylor", "fisher"]
HIDDEN: Unit = (-1, "hidden")  # the hidden dimensions, which all layers share


def readers(model: Any) -> dict[Unit, int]:
    """Every projection that reads prunable units, with the number of units it reads; parts that are gone have none."""
    family = family_of(model.config.model_type)
    found: dict[Unit, int] = {}
    for index, layer in enumerate(layers_of(model)):
        if heads_of(model, layer):
            found[(index, family.attention_output)] = heads_of(model, layer)
        for part in feed_forwards_of(model):
            if neurons_of(layer, part):
                found[(index, part.down)] = neurons_of(layer, part)
    return found


def measure(
    model: Any, kind: Kind, context: Context, source: Artifact, rows: int, pulls: dict[Unit, Tensor] | None = None
) -> dict[Unit, Tensor]:
    """Importance (U,) of the heads, the neurons and the hidden dimensions; `pulls` are the `gradients`, if at hand."""
    if kind in ("taylor", "fisher") and pulls is None:
        pulls = gradients(model, context, source, rows)
    match kind:
        case "random":
            generator = torch.Generator().manual_seed(context.recipe.seed)
            return {unit: torch.rand(count, generator=generator) for unit, count in _counts(model).items()}
        case "magnitude":
            return magnitude(model)
        case "taylor":
            return {unit: g.abs().sum(dim=0) for unit, g in (pulls or {}).items()}
        case "fisher":
            return {unit: torch.from_numpy(fisher(g.numpy())).float() for unit, g in (pulls or {}).items()}


def _counts(model: Any) -> dict[Unit, int]:
    position = family_of(model.config.model_type).position_embedding
    return {**readers(model), HIDDEN: model.get_submodule(position).embedding_dim}


def magnitude(model: Any) -> dict[Unit, Tensor]:
    """By the norms of the weights; a hidden dimension by those of its column of the embeddings."""
    family, found = family_of(model.config.model_type), {}
    for index, layer in enumerate(layers_of(model)):
        if heads_of(model, layer):
            output = linear_at(layer, family.attention_output).weight.detach()
            found[(index, family.attention_output)] = head_magnitude(output, heads_of(model, layer))
        for part in feed_forwards_of(model):
            if neurons_of(layer, part):
                up, down = (linear_at(layer, path).weight.detach() for path in (part.up, part.down))
                found[(index, part.down)] = neuron_magnitude(up, down)
    writes = [model.get_submodule(name) for name in matching(model, family.residual.writes)]
    rows = [module.weight.detach().pow(2).sum(dim=1) for module in writes if isinstance(module, nn.Linear)]
    table = word_table(model).pow(2).mean(dim=0)
    if len(table) == len(rows[0]):  # MobileBERT's words have a width of their own
        rows.append(table)
    found[HIDDEN] = torch.stack(rows).sum(dim=0).sqrt()
    return found


def gradients(model: Any, context: Context, source: Artifact, rows: int) -> dict[Unit, Tensor]:
    """The gradient (N, U) of every row's loss by the masks of the units, of N rows evenly spread over the training set.

    Where a label is missing, the loss takes the model's own answer (Kwon et al. 2022 take the labels; at a well-trained
    model both are near).
    """
    torch.set_num_threads(choose_threads("auto"))
    encoder = context.encoder(source.path, int(model.config.pad_token_id or 0))
    encoded = encode_split(context.data.train, encoder)
    wanted = min(rows, len(encoded))
    chosen = [k * len(encoded) // wanted for k in range(wanted)]  # evenly spread, whatever order the rows are in
    found: dict[Unit, list[Tensor]] = {}
    taken: dict[Unit, list[Tensor]] = {}
    hooks = _listen(model, taken)
    units = _counts(model)
    model.eval()
    done = 0
    for positions, batch in in_order(encoded, encoder, chosen):
        model.zero_grad()
        taken.clear()
        answers = batch.answers(model(**batch.inputs(takes_token_types(model))).logits)
        torch.autograd.backward(probe_loss(context.recipe.task, answers, batch.labels))
        for unit, activations in taken.items():
            sums = [mask_gradients(a.detach(), a.grad, units[unit]) for a in activations if a.grad is not None]
            found.setdefault(unit, []).append(torch.stack(sums).sum(dim=0))
        done += len(positions)
        context.report(done, wanted, "importance")
    for hook in hooks:
        hook.remove()
    model.zero_grad()
    return {unit: torch.cat(parts) for unit, parts in found.items()}


def _listen(model: Any, taken: dict[Unit, list[Tensor]]) -> list[Any]:
    """Keep the activations of all units: what the readers read, and what the norms of the hidden state give."""
    family = family_of(model.config.model_type)

    def keep(unit: Unit, tensor: Tensor) -> None:
        tensor.retain_grad()
        taken.setdefault(unit, []).append(tensor)

    def before(unit: Unit) -> Callable[..., None]:
        return lambda module, arguments: keep(unit, arguments[0])

    hooks: list[Any] = []
    for unit in readers(model):
        module = layers_of(model)[unit[0]].get_submodule(unit[1])
        hooks.append(module.register_forward_pre_hook(before(unit)))
    for name in matching(model, family.residual.norms):
        module = model.get_submodule(name)
        hooks.append(module.register_forward_hook(lambda module, arguments, output: keep(HIDDEN, output)))
    return hooks
