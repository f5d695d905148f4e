"""Smooth: SmoothQuant, folded into the weights of the checkpoint, so that the exported graph has no operator more.

The factors of edgetf.algorithms.smoothing move along the links of edgetf.models.links, which says what can be folded
exactly, and why a post-norm layer's norms cannot: the smoothed model gives the same answers. Its hidden states are
others, so smoothing comes after all training that compares them with a teacher's.

Source: Xiao et al. 2022, SmoothQuant, arXiv 2211.10438. There the norm before each block is divided, which pre-norm
models allow; such a family states ``Link(norm, readers)`` among its layer's links.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgetf.algorithms.smoothing import larger_range, smoothing_factors, unevenness, weight_range
from edgetf.core.artifact import Artifact, Spec
from edgetf.models.checkpoint import load_classifier
from edgetf.models.families.family import Link
from edgetf.models.links import links_of, move_factors
from edgetf.stages.context import Context
from edgetf.stages.fit import untrained
from edgetf.training.batches import TensorBatch, encode_split, in_order
from edgetf.training.teacher import takes_token_types


@dataclass(frozen=True)
class Smoothed:
    """One link, and how uneven the ranges of its channels were before and after: the largest by the mean."""

    source: str
    readers: tuple[str, ...]
    activation_before: float
    activation_after: float
    weight_before: float
    weight_after: float


@dataclass(frozen=True)
class SmoothReport:
    """What was folded; linear layers that are in no link stayed as they were."""

    alpha: float
    links: tuple[Smoothed, ...]


def run(source: Artifact, context: Context, out: Path, alpha: float, rows: int) -> tuple[Spec, float]:
    """Write the checkpoint, smoothed by the ranges on `rows` training rows; gives its spec and the seconds it took."""
    started = time.monotonic()
    model = load_classifier(source.path, head=context.head)
    report = smooth(model, _batches(model, source, context, rows), alpha)
    spec = untrained(model, source.path, context, out, {"smoothing": asdict(report)})
    return spec, time.monotonic() - started


def _batches(model: Any, source: Artifact, context: Context, rows: int) -> Iterator[TensorBatch]:
    """Training rows, evenly spread over the training set, one batch at a time."""
    encoder = context.encoder(source.path, int(model.config.pad_token_id or 0))
    encoded = encode_split(context.data.train, encoder)
    wanted, done = min(rows, len(encoded)), 0
    for positions, batch in in_order(encoded, encoder, [k * len(encoded) // wanted for k in range(wanted)]):
        context.report(done, wanted, "smoothing")
        done += len(positions)
        yield batch


def smooth(model: Any, batches: Iterable[TensorBatch], alpha: float) -> SmoothReport:
    """Fold SmoothQuant into the model in place; its answers stay what they were.

    All factors are taken from the model as it was, so that the order of the links does not matter. Of the activations
    no more than the largest values so far are kept.
    """
    links = links_of(model)
    activations = _activation_ranges(model, links, batches)
    weights = [weight_range([_weight(model, path) for path in link.readers]) for link in links]
    factors = [smoothing_factors(x, w, alpha) for x, w in zip(activations, weights, strict=True)]
    smoothed = []
    for link, x, w, s in zip(links, activations, weights, factors, strict=True):
        move_factors(model, link, s)
        uneven = [round(unevenness(ranges), 3) for ranges in (x, x / s, w, w * s)]
        smoothed.append(Smoothed(link.source, link.readers, *uneven))
    return SmoothReport(alpha, tuple(smoothed))


def _weight(model: nn.Module, path: str) -> Tensor:
    weight: Any = model.get_submodule(path).weight
    return weight.detach()  # type: ignore[no-any-return]


def _activation_ranges(model: Any, links: list[Link], batches: Iterable[TensorBatch]) -> list[Tensor]:
    """The range (J,) of every link's channels on the real tokens of all batches."""
    model.eval()
    found: list[Tensor | None] = [None] * len(links)
    with _listening(model, links) as latest, torch.inference_mode():
        for batch in batches:
            model(**batch.inputs(takes_token_types(model)))
            real = batch.attention_mask.bool()
            for number, states in latest.items():
                tokens = states[real] if states.shape[:-1] == real.shape else states.flatten(0, -2)
                found[number] = larger_range(found[number], tokens)
    # Inference tensors may not meet autograd later.
    return [ranges.clone() if ranges is not None else torch.zeros(0) for ranges in found]


@contextmanager
def _listening(model: Any, links: list[Link]) -> Iterator[dict[int, Tensor]]:
    """What the first reader of every link reads in the latest pass, by the number of the link."""
    latest: dict[int, Tensor] = {}

    def listener(number: int) -> Any:
        def listen(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            latest[number] = arguments[0]

        return listen

    hooks = [
        model.get_submodule(link.readers[0]).register_forward_pre_hook(listener(number))
        for number, link in enumerate(links)
    ]
    try:
        yield latest
    finally:
        for hook in hooks:
            hook.remove()
