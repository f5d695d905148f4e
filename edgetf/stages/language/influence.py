"""How much every layer, head, neuron and hidden dimension of a decoder matters to blocks of the training documents.

The formulas stand in edgetf.algorithms.influence and edgetf.algorithms.importance; here the model is listened to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgetf.algorithms.importance import head_magnitude, mask_gradients, neuron_magnitude
from edgetf.algorithms.influence import block_influence, channel_activity, head_activity, norm_growth
from edgetf.core.progress import Report
from edgetf.data.corpus.blocks import Blocks
from edgetf.models.decoders.axes import (
    attention_output,
    body_of,
    is_gpt2,
    layers_of,
    neurons_output,
    norms_of,
    reading_norms,
)
from edgetf.training.language.perplexity import in_batches
from edgetf.training.threads import choose_threads

Kind = Literal["random", "magnitude", "activation", "taylor"]


@dataclass(frozen=True)
class Importance:
    """Of the query heads (A,) and the neurons (F,) of every layer, and of the hidden dimensions (H,)."""

    heads: tuple[Tensor, ...]
    neurons: tuple[Tensor, ...]
    hidden: Tensor


def influences(model: Any, blocks: Blocks, report: Report) -> list[float]:
    """The block influence of every layer."""
    sums = [0.0] * len(layers_of(model))

    def listener(index: int) -> Callable[..., None]:
        def listen(module: nn.Module, arguments: Any, options: Any, output: Any) -> None:
            before = arguments[0] if arguments else options["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            sums[index] += block_influence(before, after) * len(before)

        return listen

    hooks = [
        layer.register_forward_hook(listener(index), with_kwargs=True) for index, layer in enumerate(layers_of(model))
    ]
    with _removed(hooks):
        _read(model, blocks, report, "influence of the layers")
    return [total / len(blocks) for total in sums]


def measure(model: Any, kind: Kind, blocks: Blocks, seed: int, report: Report) -> Importance:
    """The importance of all units."""
    match kind:
        case "random":
            generator = torch.Generator().manual_seed(seed)
            return _each(model, lambda count, weight: torch.rand(count, generator=generator))
        case "magnitude":
            return _magnitude(model)
        case "activation" | "taylor":
            return _listened(model, kind, blocks, report)


def norm_factors(model: Any, kept: Tensor, blocks: Blocks, report: Report) -> dict[str, float]:
    """What the weights of every norm are multiplied by, so that over the kept dimensions it gives what it gave."""
    sums: dict[str, float] = {}

    def listener(path: str) -> Callable[..., None]:
        def listen(module: nn.Module, arguments: Any) -> None:
            sums[path] = sums.get(path, 0.0) + norm_growth(arguments[0], kept) * len(arguments[0])

        return listen

    hooks = [module.register_forward_pre_hook(listener(path)) for path, module in norms_of(model).items()]
    with _removed(hooks):
        _read(model, blocks, report, "norms of the hidden width")
    return {path: total / len(blocks) for path, total in sums.items()}


def _heads(model: Any) -> int:
    return int(model.config.num_attention_heads)


def _out_columns(model: Any, module: nn.Module) -> Tensor:
    """The weight (H, U) of what reads units; GPT-2 holds it the other way round."""
    weight: Any = module.weight
    found: Tensor = (weight.T if is_gpt2(model) else weight).detach()
    return found


def _each(model: Any, draw: Callable[[int, Tensor], Tensor]) -> Importance:
    layers, hidden = layers_of(model), model.get_input_embeddings().weight
    outputs = [_out_columns(model, neurons_output(model, layer)) for layer in layers]
    return Importance(
        heads=tuple(draw(_heads(model), hidden) for _ in layers),
        neurons=tuple(draw(output.shape[1], output) for output in outputs),
        hidden=draw(hidden.shape[1], hidden),
    )


def _magnitude(model: Any) -> Importance:
    """By the norms of the weights; a hidden dimension by those of its column of the embedding and of what writes it."""
    heads, neurons = [], []
    squares = model.get_input_embeddings().weight.detach().pow(2).mean(dim=0)
    for layer in layers_of(model):
        attended = _out_columns(model, attention_output(model, layer))
        down = _out_columns(model, neurons_output(model, layer))
        names = ("mlp.c_fc",) if is_gpt2(model) else ("mlp.gate_proj", "mlp.up_proj")
        ups = [_out_columns(model, layer.get_submodule(name)) for name in names]  # (F, H)
        neurons.append(torch.stack([neuron_magnitude(up, down) for up in ups]).prod(dim=0))
        heads.append(head_magnitude(attended, _heads(model)))
        squares = squares + attended.pow(2).sum(dim=1) + down.pow(2).sum(dim=1)
    return Importance(tuple(heads), tuple(neurons), squares.sqrt())


def _listened(model: Any, kind: Kind, blocks: Blocks, report: Report) -> Importance:
    """By what the units give, or by that times the gradient of the next-token loss."""
    layers, heads = layers_of(model), _heads(model)
    sums: dict[tuple[str, int], Tensor] = {}

    def add(key: tuple[str, int], found: Tensor) -> None:
        sums[key] = sums[key] + found if key in sums else found

    def one(key: tuple[str, int], activation: Tensor) -> None:
        units = heads if key[0] == "heads" else activation.shape[-1]
        if kind == "taylor":
            tensor: Any = activation
            tensor.register_hook(
                lambda gradient: add(key, mask_gradients(activation.detach(), gradient, units).abs().sum(dim=0))
            )
            return
        found = head_activity(activation, units) if key[0] == "heads" else channel_activity(activation)
        add(key, found * len(activation))

    hooks: list[Any] = []
    for index, layer in enumerate(layers):
        for name, module in (("heads", attention_output(model, layer)), ("neurons", neurons_output(model, layer))):
            hooks.append(module.register_forward_pre_hook(_before(one, (name, index))))
        for norm in reading_norms(model, layer):
            hooks.append(norm.register_forward_hook(_after(one, ("hidden", 0))))
    with _removed(hooks):
        _read(model, blocks, report, "importance", with_loss=kind == "taylor")
    model.zero_grad()
    parts = {name: tuple(sums[(name, k)] / len(blocks) for k in range(len(layers))) for name in ("heads", "neurons")}
    return Importance(parts["heads"], parts["neurons"], sums[("hidden", 0)] / len(blocks))


def _before(one: Callable[..., None], key: tuple[str, int]) -> Callable[..., None]:
    return lambda module, arguments: one(key, arguments[0])


def _after(one: Callable[..., None], key: tuple[str, int]) -> Callable[..., None]:
    return lambda module, arguments, output: one(key, output)


def _read(model: Any, blocks: Blocks, report: Report, what: str, with_loss: bool = False) -> None:
    """Let the model read the blocks, and with a loss go back from it."""
    torch.set_num_threads(choose_threads("auto"))
    model.eval()
    done, body = 0, body_of(model)
    with torch.set_grad_enabled(with_loss):
        for ids in in_batches(blocks, int(model.config.vocab_size)):
            if with_loss:
                logits = model(input_ids=ids, use_cache=False).logits
                loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
                torch.autograd.backward(loss * len(ids))
            else:
                body(input_ids=ids, use_cache=False)
            done += len(ids)
            report(done, len(blocks), what)


@contextmanager
def _removed(hooks: list[Any]) -> Iterator[None]:
    """Take the hooks off behind the block."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
