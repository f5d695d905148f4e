"""Search the shape of every layer that keeps most importance while the model keeps to a target.

Weights and multiply-accumulates are counted. A latency is looked up in a table measured here (see
edgetf.stages.latency), which is scaled so that it is right for the model before pruning; the shape that was found is
then timed as well, in turns with that model, and the limit corrected by what the table missed. Of a device that is away
all of these are predicted by its fit, and are called so.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetf.algorithms.search import Array, choices, rearrange, search
from edgetf.config.stages import PruneConfig, PruneTarget
from edgetf.core.errors import ConfigError
from edgetf.core.progress import Report
from edgetf.models.families import family_of
from edgetf.models.families.family import LayerShape, Shape
from edgetf.models.slicing import feed_forwards_of, model_shape
from edgetf.stages.deployment import Deployment
from edgetf.stages.importance import HIDDEN, Unit
from edgetf.stages.latency import LatencyTable, all_widths, latency_table
from edgetf.stages.probes import time_models, write_model
from edgetf.stages.shrink import Kept, choose, narrow

CLOSE = 0.03  # a measured latency this near its target is left alone
FAR = 0.1  # one that is missed by more is told
CORRECTIONS = 2
NOTHING = np.zeros(1)  # of a part that has no units any more
SLACK = 1e-9  # sums of the same milliseconds in another order differ in their last digits
Importance = dict[Unit, torch.Tensor]
Losses = dict[Unit, Array]  # what is lost by the number of units removed, (U + 1,) for every part that has units


class Search:
    """Finds shapes for one model; `found` says what was predicted and measured.

    The files that it times lie in a folder of their own, which goes at the end of a ``with`` block.
    """

    def __init__(
        self, config: PruneConfig, model: Any, deployment: Deployment, report: Report, start: Shape | None = None
    ) -> None:
        """A search of shapes that cost a share of `model`, which was narrowed to `start` before."""
        if config.target is None:
            raise ValueError("a search needs a target")
        self.config, self.target, self.deployment = config, config.target, deployment
        self.report, self.dense = report, model_shape(model)
        self.sizes = all_widths(self.dense, config.round_to)
        self.table = cost_table(self.target, model, deployment, config.round_to, self.sizes, report)
        self.total = self.table.predict(self.dense)
        self.start = self.table.predict(start or self.dense)
        self.scale = 1.0
        self.found: dict[str, Any] = {"target": self.target.model_dump(exclude_none=True)}
        self._folder = tempfile.TemporaryDirectory(prefix="edgetf-search-")
        if self.target.unit == "speedup":
            self._dense_file = write_model(model, deployment, Path(self._folder.name) / "dense")
            self.dense_ms = time_models([self._dense_file], deployment)[0]
            self.scale = self.dense_ms / self.total
            self.found |= {"how": deployment.how, "dense_ms": self.dense_ms, "table_ms": self.total}

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def shape(self, model: Any, share: float, importance: Importance, losses: Losses) -> Shape:
        """The shape after this share of the way to the target; the whole way is measured where it is a latency.

        The losses say how many units stay in each part, the importance which.

        Raises:
            ConfigError: even a model without heads and neurons costs more.
        """
        limit = self.start ** (1 - share) * (self.total * self.target.left) ** share
        shape = self._best(model, limit, losses)
        self.found["predicted"] = self.table.predict(shape) * self.scale
        if self.target.unit != "speedup" or share < 1:
            return shape
        goal = self.dense_ms * self.target.left
        trials: list[tuple[float, Shape]] = []
        for attempt in range(CORRECTIONS + 1):
            measured = self._measure(model, shape, importance, attempt)
            trials.append((measured, shape))
            if abs(measured - goal) <= CLOSE * goal or attempt == CORRECTIONS:
                break
            limit = max(self.table.fixed(len(shape.layers)) * 1.01, limit * goal / measured)
            shape = self._best(model, limit, losses)
        measured, shape = min(
            trials, key=lambda trial: abs(trial[0] - goal)
        )  # on a busy machine a later one can be worse
        how = self.deployment.how
        self.found |= {f"{how}_ms": measured, f"{how}_speedup": self.dense_ms / measured}
        return shape

    def remark(self) -> str | None:
        """What to tell the user of a speed-up that was missed; None if none was asked for, or it came near enough."""
        wanted, how = self.target.values[0], self.deployment.how
        measured = self.found.get(f"{how}_speedup")
        if measured is None or abs(measured - wanted) <= FAR * wanted:
            return None
        if how == "predicted":
            return (
                f"prune.target.speedup: wanted {wanted:g}, found {measured:.2f} (predicted, for {self.deployment.away})"
            )
        return (
            f"prune.target.speedup: wanted {wanted:g}, measured {measured:.2f} after {CORRECTIONS} corrections; "
            "timings scatter where other work runs beside them: stop that work and run again with --fresh"
        )

    def _best(self, model: Any, limit: float, losses: Losses) -> Shape:
        now, family, parts = model_shape(model), family_of(model.config.model_type), feed_forwards_of(model)
        blocks, places = [], []
        for index, layer in enumerate(now.layers):
            head_costs, neuron_costs = self.table.blocks(last=index == len(now.layers) - 1)
            sizes = list(range(layer.heads + 1))
            lost = losses.get((index, family.attention_output), NOTHING)
            blocks.append(choices(lost, sizes, [head_costs[size] for size in sizes]))
            for part, neurons in zip(parts, layer.neurons, strict=True):
                sizes = sorted({size for size in self.sizes if size < neurons} | {neurons})
                blocks.append(
                    choices(losses.get((index, part.down), NOTHING), sizes, [neuron_costs[size] for size in sizes])
                )
            places.append(1 + len(parts))
        rest = limit - self.table.fixed(len(now.layers))
        if rest < 0:
            raise ConfigError(
                f"prune.target: got {self.found['target']}, which a model without heads and neurons would miss; "
                "ask for less, or remove layers"
            )
        picks = search(blocks, rest + SLACK * limit)
        sizes = [block[pick].kept for block, pick in zip(blocks, picks, strict=True)]
        layers = []
        for place in places:
            layers.append(LayerShape(sizes[0], tuple(sizes[1:place])))
            sizes = sizes[place:]
        return replace(now, layers=tuple(layers))

    def _measure(self, model: Any, shape: Shape, importance: Importance, attempt: int) -> float:
        """Milliseconds of the model in this shape, where its dense file takes what it took before."""
        self.report(attempt, CORRECTIONS + 1, "timing the found shape")
        trial = copy.deepcopy(model)
        with torch.no_grad():
            narrow(trial, choose(trial, shape, importance))
        file = write_model(trial, self.deployment, Path(self._folder.name) / f"trial-{attempt}")
        dense, pruned = time_models([self._dense_file, file], self.deployment)
        return pruned / dense * self.dense_ms


def cost_table(
    target: PruneTarget, model: Any, deployment: Deployment, multiple: int, sizes: list[int], report: Report
) -> LatencyTable:
    """What heads and neurons cost in the unit of the target."""
    if target.unit == "speedup":
        return latency_table(model.config.to_dict(), deployment, multiple, report)
    shape = model_shape(model)
    heads = max(layer.heads for layer in shape.layers)
    config = model.config.to_dict()
    narrow = family_of(config["model_type"]).attention_width  # MobileBERT's layers work in a bottleneck
    width = shape.hidden_size if narrow is None else int(config[narrow])
    scores = 0 if target.unit == "params" else 2 * deployment.seq_len
    head = shape.head_width * (3 * width + shape.hidden_size + scores)  # values come from the hidden state itself
    by_heads = {count: float(count * head) for count in range(heads + 1)}
    by_neurons = {size: float(2 * size * width) for size in sizes}
    return LatencyTable(by_heads, by_neurons, 0.0, by_heads, by_neurons, last_layer=0.0, around=0.0)


def keep_together(kept: Kept, gradients: Importance) -> Kept:
    """Swap kept with removed units where their gradients say that others stand in for them better."""
    swapped = {}
    for unit, chosen in kept.items():
        ids = chosen.tolist() if unit == HIDDEN else rearrange(gradients[unit].numpy(), chosen.tolist())
        swapped[unit] = torch.tensor(ids, dtype=torch.long)
    return swapped
