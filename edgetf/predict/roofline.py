"""How long a file takes: a roofline whose roofs add up, and what other operators cost by the element and by themselves.

    t = F/(η·peak) + W/β + m·W/β' + c4·F' + c5·E + c6·E_function + c7·E_rounding + c8·n

Products with weights take F floating-point (or integer) operations and read W bytes of weights. One core does not
compute while it waits, so the two are added and not the larger one taken. From main memory comes the share m of W that
no cache holds from one inference to the next: none up to the cache size C, all from 2·C on, because a cache that is
read in a circle keeps little of what is larger than itself. F' are the operations of products of two activations, as in
attention, which are many small ones. E are elements that arithmetic and moves of data give, beside those of row-wise
functions and of changes between float and integer; n are the operators that are no views.

C is found by trying, the eight constants by non-negative relative least squares, held towards a typical core's whose
speed is the device's.

Source: the roofline of Williams, Waterman and Patterson 2009, with the cost of an operator by itself, which rules where
models are small. What this form was chosen over is in docs/prediction.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from edgetf.predict.fit import Floats, constants, leverage
from edgetf.predict.interval import factor, left_out_errors
from edgetf.predict.ops import Group, Op


@dataclass(frozen=True)
class Term:
    """A constant: what a unit of it takes on a typical core, of which only the proportions are used."""

    typical_ms: float
    unit: str


_OPERATIONS, _BYTES, _ELEMENTS = "ms per 10^9 operations", "ms per 10^9 bytes", "ms per 10^6 elements"
TERMS = {
    "product": Term(12.0, _OPERATIONS),
    "weights": Term(30.0, _BYTES),
    "memory": Term(50.0, _BYTES),
    "attention": Term(20.0, _OPERATIONS),
    "elements": Term(0.3, _ELEMENTS),
    "function": Term(1.0, _ELEMENTS),
    "rounding": Term(0.5, _ELEMENTS),
    "turn": Term(1.0, "ms per 10^3 operators"),
}
CACHES_MB = (0.5, 1, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96)  # tried for C, in 10^6 bytes
RIDGE = 1e-3
REPEATS = 0.05  # relative scatter of one model's median from one sitting to another: docs/prediction.md
TYPICAL = np.array([term.typical_ms for term in TERMS.values()])


@dataclass(frozen=True)
class Counts:
    """What a file does at a length: 10^9 operations or bytes, 10^6 elements, 10^3 operators."""

    product: float
    weights: float
    attention: float
    elements: float
    function: float
    rounding: float
    turn: float

    def costs(self, cache_mb: float) -> Floats:
        """The row (8,) of the formula for a cache of that size, in the order of `TERMS`."""
        missed = min(1.0, max(0.0, 1e3 * self.weights / cache_mb - 1))
        return np.array(
            [self.product, self.weights, missed * self.weights, self.attention, self.elements, self.function,
             self.rounding, self.turn]
        )  # fmt: skip


def counts_of(ops: Sequence[Op]) -> Counts:
    """Sum up the operators of a file."""

    def elements(*groups: Group) -> float:
        return sum(op.elements for op in ops if op.group in groups) / 1e6

    return Counts(
        product=sum(op.flops for op in ops if op.group == "product") / 1e9,
        weights=sum(op.weight_bytes for op in ops if op.group == "product") / 1e9,
        attention=sum(op.flops for op in ops if op.group == "attention") / 1e9,
        elements=elements("arithmetic", "layout"),
        function=elements("function"),
        rounding=elements("rounding"),
        turn=sum(op.group != "view" for op in ops) / 1e3,
    )


@dataclass(frozen=True)
class Timed:
    """A model that was timed at a length: the counts of its file and its median milliseconds."""

    model: str
    seq_len: int
    counts: Counts
    ms: float


@dataclass(frozen=True)
class Estimate:
    """Milliseconds with the ends of their 95 % interval, and the milliseconds that each term stands for."""

    ms: float
    low: float
    high: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Roofline:
    """Constants of a device × runtime × scheme, with the measurements that they were fitted to."""

    timed: tuple[Timed, ...]
    cache_mb: float
    constants: tuple[float, ...]  # in the order of `TERMS`
    errors: tuple[float, ...]  # log(t / t̂) of every measurement, from a fit without its model

    def estimate(self, counts: Counts) -> Estimate:
        """What a file takes."""
        row, found = counts.costs(self.cache_mb), np.asarray(self.constants)
        ms = float(row @ found)
        outside = leverage(self._costs, self._times, _prior(self._costs, self._times), RIDGE, (row / ms)[None])[0]
        times = factor(np.asarray(self.errors), self.models, float(outside), REPEATS)
        return Estimate(ms, ms / times, ms * times, dict(zip(TERMS, (row * found).tolist(), strict=True)))

    @property
    def models(self) -> int:
        """How many were timed, at whatever lengths."""
        return len({each.model for each in self.timed})

    @cached_property
    def _costs(self) -> Floats:
        return _costs(self.timed, self.cache_mb)

    @cached_property
    def _times(self) -> Floats:
        return np.array([each.ms for each in self.timed])


def fit_roofline(timed: Sequence[Timed]) -> Roofline:
    """Fit the constants, and find what the fit misses where a model is left out."""
    times, costs = np.array([each.ms for each in timed]), {size: _costs(timed, size) for size in CACHES_MB}
    size, found = _best(costs, times)

    def without(kept: Floats) -> Floats:
        chosen, others = _best({size: each[kept] for size, each in costs.items()}, times[kept])
        return np.asarray(costs[chosen] @ others)

    errors = left_out_errors([each.model for each in timed], times, without)
    return Roofline(tuple(timed), size, tuple(found.tolist()), tuple(errors.tolist()))


def _best(costs: dict[float, Floats], times: Floats) -> tuple[float, Floats]:
    """The cache size whose constants miss least, by the mean error, and these."""
    tried = {size: constants(each, times, _prior(each, times), RIDGE) for size, each in costs.items()}
    size = min(tried, key=lambda size: float(np.abs(costs[size] @ tried[size] / times - 1).mean()))
    return size, tried[size]


def _costs(timed: Sequence[Timed], cache_mb: float) -> Floats:
    """The rows of all measurements, (N, 8)."""
    return np.stack([each.counts.costs(cache_mb) for each in timed])


def _prior(costs: Floats, times: Floats) -> Floats:
    """The typical core's constants at the speed of this device, which is the median over its measurements."""
    return np.asarray(TYPICAL * np.median(times / (costs @ TYPICAL)))


def counts_from_json(record: dict[str, float]) -> Counts:
    """Counts as they were written.

    Raises:
        TypeError: they are not whole.
    """
    return Counts(**{field.name: float(record[field.name]) for field in fields(Counts)})
