"""How long a file takes: a roofline of its products, and what every other operator costs by the element and by itself.

    t = c1 · Σ max(F, ρ·W)  +  c2 · Σ F'  +  c3 · E_arithmetic + c4 · E_function + c5 · E_layout + c6 · E_rounding  +  c7 · n

Products with weights take F floating-point (or integer) operations and read W bytes of weights; 1/c1 is the arithmetic
a second that the device sustains (η·peak), and ρ/c1 in bytes the bandwidth β, so that max(F, ρ·W)·c1 is
max(F/(η·peak), W/β). F' are the operations of products of two activations, as in attention, which are many small ones.
E are elements that the other operators give, n the operators that are no views. ρ is found by trying, the seven c by
non-negative relative least squares, held towards a typical processor's whose speed is the device's.

Source: the roofline of Williams, Waterman and Patterson 2009; the cost of an operator by itself, which rules where
models are small or processors fast, from measurements of Qualcomm's (docs/prediction.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgetf.predict.fit import Floats, constants, leverage
from edgetf.predict.interval import factor, left_out_errors
from edgetf.predict.ops import GROUPS, Group, Op

# What each is counted in, and what a unit of it takes on a typical core, in ms; only the proportions are used.
TYPICAL: dict[str, float] = {
    "product": 12.0,  # 10^9 operations
    "attention": 20.0,  # 10^9 operations
    "arithmetic": 0.25,  # 10^6 elements
    "function": 1.0,
    "layout": 0.5,
    "rounding": 0.5,
    "turn": 1.0,  # 10^3 operators
}
UNITS = {"product": "ms per 10^9 operations", "attention": "ms per 10^9 operations",
         **dict.fromkeys(("arithmetic", "function", "layout", "rounding"), "ms per 10^6 elements"),
         "turn": "ms per 10^3 operators"}  # fmt: skip
BALANCES = (0.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0)  # operations a byte of weights: ρ
RIDGE = 1e-3


@dataclass(frozen=True)
class Counts:
    """What a file does at a length, in the units of `TYPICAL`, for each of `BALANCES`."""

    product: tuple[float, ...]
    others: tuple[float, ...]  # attention to turn

    def costs(self, place: int) -> Floats:
        """The row (7,) of the formula, for the balance of that place."""
        return np.array([self.product[place], *self.others])


def counts_of(ops: Sequence[Op]) -> Counts:
    """Sum up the operators of a file."""
    products = [(op.flops, op.weight_bytes) for op in ops if op.group == "product"]
    elements: dict[Group, float] = dict.fromkeys(GROUPS, 0.0)
    for op in ops:
        elements[op.group] += op.elements / 1e6
    attention = sum(op.flops for op in ops if op.group == "attention") / 1e9
    turns = sum(op.group != "view" for op in ops) / 1e3
    by_element = (elements[group] for group in ("arithmetic", "function", "layout", "rounding"))
    return Counts(
        product=tuple(sum(max(flops, rho * size) for flops, size in products) / 1e9 for rho in BALANCES),
        others=(attention, *by_element, turns),
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
    place: int  # of its balance in `BALANCES`
    constants: tuple[float, ...]  # in the order of `TYPICAL`
    errors: tuple[float, ...]  # log(t / t̂) of every measurement, from a fit without its model

    def estimate(self, counts: Counts) -> Estimate:
        """What a file takes."""
        row, found = counts.costs(self.place), np.asarray(self.constants)
        ms = float(row @ found)
        outside = leverage(self._costs, self._times, self._prior, RIDGE, (row / ms)[None])[0]
        times = factor(np.asarray(self.errors), len({each.model for each in self.timed}), float(outside))
        return Estimate(ms, ms / times, ms * times, dict(zip(TYPICAL, (row * found).tolist(), strict=True)))

    @cached_property
    def _costs(self) -> Floats:
        return _costs_of(self.timed, self.place)

    @cached_property
    def _times(self) -> Floats:
        return np.array([each.ms for each in self.timed])

    @cached_property
    def _prior(self) -> Floats:
        return _prior_of(self._costs, self._times)


def fit_roofline(timed: Sequence[Timed]) -> Roofline:
    """Fit the constants, and what the fit misses where a model is left out."""
    times, costs = np.array([each.ms for each in timed]), [_costs_of(timed, place) for place in range(len(BALANCES))]
    place, found = _best(costs, times)

    def without(kept: Floats) -> Floats:
        chosen, others = _best([each[kept] for each in costs], times[kept])
        return np.asarray(costs[chosen] @ others)

    errors = left_out_errors([each.model for each in timed], times, without)
    return Roofline(tuple(timed), place, tuple(found.tolist()), tuple(errors.tolist()))


def _best(costs: Sequence[Floats], times: Floats) -> tuple[int, Floats]:
    """The balance whose constants miss least, by the mean error, and these."""
    tried = [constants(each, times, _prior_of(each, times), RIDGE) for each in costs]
    missed = [np.abs(each @ found / times - 1).mean() for each, found in zip(costs, tried, strict=True)]
    place = int(np.argmin(missed))
    return place, tried[place]


def _costs_of(timed: Sequence[Timed], place: int) -> Floats:
    return np.stack([each.counts.costs(place) for each in timed])


def _prior_of(costs: Floats, times: Floats) -> Floats:
    """The typical processor's constants at the speed of this device, which is the median over its measurements."""
    typical = np.array(list(TYPICAL.values()))
    return np.asarray(typical * np.median(times / (costs @ typical)))
