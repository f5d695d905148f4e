"""Budgets: what a variant may cost, and whether it kept to it.

``accuracy_drop=0.02`` bounds from above, ``accuracy=0.9`` from below. A number that was not measured is neither a
pass nor a fail: it is `not_measured`, with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from edgetf.core.errors import ConfigError, near_match
from edgetf.core.task_names import AnyTask

Verdict = Literal["pass", "fail", "not_measured"]

ANY_UPPER = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "instructions_ratio", "size_mib", "peak_rss_mib")
ANY_LOWER = ("speedup", "size_ratio", "provider_share")
DECODING = ("ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s")  # of a decoder, at its middle context
TIMED = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "speedup", *DECODING)  # by validation.latency_gate
TASK_UPPER: dict[AnyTask, tuple[str, ...]] = {
    "sequence_classification": ("accuracy_drop",),
    "regression": ("pearson_drop", "mse", "rmse"),
    "sentence_embeddings": (),
    "token_classification": ("f1_drop",),
    "language_modeling": ("perplexity", "perplexity_ratio", "bits_per_byte", "kl", "kl_p99", "flip_rate", "ttft_ms"),
}
TASK_LOWER: dict[AnyTask, tuple[str, ...]] = {
    "sequence_classification": ("accuracy", "agreement", "macro_f1"),
    "regression": ("pearson", "spearman"),
    "sentence_embeddings": ("similarity_spearman", "neighbor_agreement", "cosine"),
    "token_classification": ("f1", "token_accuracy", "agreement"),
    "language_modeling": ("prefill_tokens_per_s", "decode_tokens_per_s"),
}
_OPEN_ENDED = {"mse", "rmse", "perplexity", "perplexity_ratio", "bits_per_byte", "kl", "kl_p99", *DECODING}


def _once(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keys))


UPPER_BOUNDS = _once([*chain(*TASK_UPPER.values()), *ANY_UPPER])
LOWER_BOUNDS = _once([*chain(*TASK_LOWER.values()), *ANY_LOWER])
BUDGET_KEYS = UPPER_BOUNDS + LOWER_BOUNDS
_NONE: Mapping[str, str] = {}
_FRACTIONS = {*chain(*TASK_UPPER.values(), *TASK_LOWER.values()), "provider_share"} - _OPEN_ENDED


@dataclass(frozen=True)
class Check:
    """One budget line held against one measured value.

    `noise` stands beside what was timed: the 95 % interval `ci95`, the noise `floor` as a share of the value, and
    whether the bound lies `within` the two.
    """

    key: str
    limit: float
    value: float | None
    verdict: Verdict
    why: str
    noise: dict[str, Any] | None = None


def parse_budget(pairs: Sequence[str]) -> dict[str, float]:
    """Read ``key=value`` words.

    >>> parse_budget(["accuracy_drop=0.02"])
    {'accuracy_drop': 0.02}

    Raises:
        ConfigError: with every word that is not a budget.
    """
    budget: dict[str, float] = {}
    problems = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not equals or math.isnan(value):
            problems.append(f"--budget {pair}: not a number; write it as key=value, e.g. accuracy_drop=0.02")
            continue
        budget[key] = value
    problems += budget_problems(budget)
    if problems:
        raise ConfigError(problems)
    return budget


def budget_problems(budget: Mapping[str, float], place: str = "--budget ") -> list[str]:
    """What is wrong with a budget, in words."""
    problems = []
    for key, value in budget.items():
        if key not in BUDGET_KEYS:
            problems.append(f"{place}{key}: not a budget{near_match(key, BUDGET_KEYS)}")
        elif not math.isfinite(value):
            problems.append(f"{place}{key}: got {value:g}, allowed: a finite number")
        elif key in _FRACTIONS and not 0 <= value <= 1:
            problems.append(f"{place}{key}: got {value:g}, allowed 0 to 1 (a fraction, 0.02 is two points)")
        elif value < 0:
            problems.append(f"{place}{key}: got {value:g}, allowed 0 or more")
    return problems


def task_problems(budget: Mapping[str, float], task: AnyTask, place: str = "--budget ") -> list[str]:
    """Keys that another task has: they would never be measured.

    >>> task_problems({"accuracy_drop": 0.02, "speedup": 2}, "regression", "budget.")
    ['budget.accuracy_drop: not measured for regression; allowed: pearson_drop, mse, rmse, pearson, spearman']
    """
    own = TASK_UPPER[task] + TASK_LOWER[task]
    strange = [key for key in budget if key in BUDGET_KEYS and key not in own + ANY_UPPER + ANY_LOWER]
    return [f"{place}{key}: not measured for {task}; allowed: {', '.join(own)}" for key in strange]


def check_budget(
    budget: Mapping[str, float], values: Mapping[str, float | None], missing: str, reasons: Mapping[str, str] = _NONE
) -> list[Check]:
    """Hold each budget line against the measured values, strictly.

    Why an absent one was not measured is in `reasons`, or else `missing`.
    """
    checks = []
    for key, limit in budget.items():
        value = values.get(key)
        if value is None:
            checks.append(not_measured(key, limit, reasons.get(key, missing)))
            continue
        kept = value <= limit if key in UPPER_BOUNDS else value >= limit
        word = "kept" if kept else "missed"
        why = f"{key}: {value:.4g}, wanted {relation(key)} {limit:g}: {word}"
        checks.append(Check(key, limit, value, "pass" if kept else "fail", why))
    return checks


def not_measured(key: str, limit: float, reason: str) -> Check:
    """A line without a value, which is neither kept nor missed."""
    return Check(key, limit, None, "not_measured", f"{key}: not measured ({reason})")


def relation(key: str) -> str:
    """How a value stands to its bound where it is kept.

    >>> relation("size_mib"), relation("speedup")
    ('<=', '>=')
    """
    return "<=" if key in UPPER_BOUNDS else ">="


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict for many: a fail outweighs what was not measured, and that outweighs a pass.

    >>> overall(["pass", "not_measured"])
    'not_measured'
    """
    if "fail" in verdicts:
        return "fail"
    return "not_measured" if "not_measured" in verdicts else "pass"
