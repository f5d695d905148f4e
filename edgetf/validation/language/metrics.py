"""What a decoder's exported file is worth on held-out tokens: alone, and beside its teacher on the same tokens.

    perplexity        exp(mean nll), nll in nats
    perplexity_ratio  exp(mean(nll - teacher's nll)): perplexity over the teacher's
    bits_per_byte     sum(nll) / ln 2 / bytes of the text, which models of different tokens share
    kl                mean of KL(teacher ‖ model) in nats, over the teacher's k likeliest tokens and all others as one
    kl_p99            its 99th percentile: a mean hides the few tokens at which a model is broken
    flip_rate         share of tokens at which the two would write another token

Tokens of one block depend on one another, blocks hardly do: the 95 % intervals are percentile bootstraps that draw
whole blocks, of both models together (paired) where two are compared. Lumping tokens together can only lower a KL
(data processing inequality), so that `kl` is a lower bound, a close one where k tokens hold nearly all probability.

Sources: Künsch 1989 (blocks); Cover and Thomas, Elements of Information Theory, 2.8; Dutta et al. 2024 (flips).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetf.core.bootstrap import interval
from edgetf.core.metrics import Floats, Metric
from edgetf.validation.language.evaluation import Exam, Teacher

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """What a runtime says of the N blocks of an exam, each array (N, T - 1); `nll` and `kl` in nats."""

    nll: Floats
    argmax: Tokens
    kl: Floats


def language_metrics(scored: Scored, exam: Exam) -> list[Metric]:
    """Every metric of a model on the blocks of an exam."""
    teacher = exam.teacher
    return [
        _over_blocks("perplexity", "perplexity", scored.nll, _exp_mean),
        _over_blocks("perplexity_ratio", "ratio", scored.nll - teacher.nll, _exp_mean),
        _bits_per_byte(scored.nll, exam.sizes),
        _over_blocks("kl", "nats", scored.kl, _mean),
        _over_blocks("kl_p99", "nats", scored.kl, _p99),
        _over_blocks("flip_rate", "fraction", scored.argmax != teacher.argmax, _mean),
    ]


def floor_problem(exam: Exam, vocab_size: int) -> str | None:
    """Why a comparison with this teacher means nothing, or None: it must beat guessing among all tokens.

    Its perplexity would be the number of tokens.
    """
    perplexity = _exp_mean(exam.teacher.nll)
    if perplexity < vocab_size:
        return None
    return (
        f"baseline: the teacher's perplexity is {perplexity:.1f}, no better than guessing among its {vocab_size} "
        "tokens; train it longer, or give another one"
    )


def teacher_alone(teacher: Teacher) -> Scored:
    """The teacher as the model that is judged: it is as good as itself."""
    return Scored(teacher.nll, teacher.argmax.astype(np.int64), np.zeros_like(teacher.nll))


def _exp_mean(values: Floats) -> float:
    """Perplexity; infinity where that is too large for a number.

    >>> round(_exp_mean(np.full(3, math.log(8.0))), 6)
    8.0
    """
    mean = float(values.mean())
    return math.exp(mean) if mean < 700 else math.inf


def _mean(values: Floats) -> float:
    return float(values.mean())


def _p99(values: Floats) -> float:
    return float(np.percentile(values, 99))


def _over_blocks(name: str, unit: str, values: NDArray[np.generic], statistic: Callable[[Floats], float]) -> Metric:
    """A statistic of the tokens (N, T - 1) with the interval of drawing blocks; of a single block there is none."""
    each = np.asarray(values, dtype=np.float64)
    between = interval(lambda rows: statistic(each[rows]), len(each)) if len(each) > 1 else None
    return Metric(name, statistic(each), unit, each.size, between)


def _bits_per_byte(nll: Floats, sizes: NDArray[np.int64]) -> Metric:
    """Bits over bytes of all blocks together; n is the number of tokens. None where the text is empty."""
    bits = nll.sum(axis=1) / math.log(2)
    if not sizes.sum():
        return Metric("bits_per_byte", None, "bits/byte", nll.size)

    def ratio(rows: NDArray[np.int64]) -> float:
        size = int(sizes[rows].sum())
        return float(bits[rows].sum()) / size if size else math.nan

    between = interval(ratio, len(bits)) if len(bits) > 1 else None
    return Metric("bits_per_byte", ratio(np.arange(len(bits))), "bits/byte", nll.size, between)
