"""One quantized file beside the fp32 file that it was made from, on the dev rows and the clock; and which to choose.

The dev rows decide, never the evaluation rows: those judge what was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgetf.core.artifact import Artifact
from edgetf.core.metrics import Metric, percentile, ratio_interval
from edgetf.runtime.model import Model
from edgetf.runtime.trust import is_noisy
from edgetf.targets.local import ask_runner
from edgetf.validation.evaluation import Evaluation
from edgetf.validation.golden import deployable_model, golden_of, runtime_logits
from edgetf.validation.row import Settings

STATIC_SLOWER = 1.1  # a static file that takes longer than the dynamic one by more than this is not offered
ATTEMPTS = 3
SLOWER = "slower than fp32"
AS_FAST = 1.03  # files within this of one another are equally fast: timings repeat no better


@dataclass(frozen=True)
class Rung:
    """What was measured of one file; `latency_ratio` is its median over that of the fp32 file, in one process."""

    name: str
    scheme: str
    size_bytes: int
    size_ratio: float  # its bytes over those of the fp32 file
    latency_p50_ms: float | None  # None: of fp32, which is timed beside each of the others
    latency_ratio: float
    latency_ratio_ci95: tuple[float, float]
    trusted: bool
    quantized_share: float | None
    shifts: dict[str, float | None]
    quantization: dict[str, Any]
    metrics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def drop(self) -> float:
        """What is lost of the task's metric against the fp32 file, on the dev rows."""
        found = [Metric.from_json(record) for record in self.metrics]
        drops = [metric.value for metric in found if metric.name.endswith("_drop") and metric.value is not None]
        return drops[0] if drops else float("inf")


def measure(name: str, quantized: Artifact, plain: Artifact, rows: Evaluation, settings: Settings) -> Rung:
    """Ask the runtime: answers to the dev `rows`, which hold those of the `plain` file, and both in turns on the clock.

    Raises:
        EdgetfError: the file cannot be run.
    """
    models = [deployable_model(artifact) for artifact in (quantized, plain)]
    answers = np.asarray(runtime_logits(models[0], rows.texts, rows.pairs, settings.threads)["logits"])
    own, other = _timed(models, max(golden_of(plain).texts, key=len), settings)
    low, high = ratio_interval(own, other)
    size, details = quantized.manifest.size_bytes, quantized.spec.details
    return Rung(
        name=name,
        scheme=quantized.spec.scheme,
        size_bytes=size,
        size_ratio=round(size / plain.manifest.size_bytes, 4),
        latency_p50_ms=round(percentile(own, 50), 4),
        latency_ratio=round(percentile(own, 50) / percentile(other, 50), 4),
        latency_ratio_ci95=(round(low, 4), round(high, 4)),
        trusted=not any(is_noisy(samples) for samples in (own, other)),
        quantized_share=details["quantized_share"],
        shifts=details["shifts"],
        quantization=details["quantization"],
        metrics=[metric.to_json() for metric in rows.compare(answers)],
    )


def _timed(models: list[Model], text: str, settings: Settings) -> list[list[float]]:
    """Milliseconds of each model in turns; taken again, a few times, while they scatter too much to choose by."""
    request = {
        "do": "bench",
        "models": [model.to_json() for model in models],
        "threads": settings.threads,
        "samples": settings.samples,
        "seq_len": settings.seq_len or models[0].max_length,
        "text": text,
    }
    taken: list[list[float]] = []
    for _ in range(ATTEMPTS):
        taken = ask_runner(request)["samples_ms"]
        if not any(is_noisy(samples) for samples in taken):
            break
    return taken


def unquantized(plain: Artifact, rows: Evaluation) -> Rung:
    """The fp32 file itself, which loses nothing and gains nothing; `rows` hold its answers."""
    return Rung(
        name="fp32",
        scheme="fp32",
        size_bytes=plain.manifest.size_bytes,
        size_ratio=1.0,
        latency_p50_ms=None,
        latency_ratio=1.0,
        latency_ratio_ci95=(1.0, 1.0),
        trusted=True,
        quantized_share=None,
        shifts={"batch": None, "padding": None},
        quantization={},
        metrics=[metric.to_json() for metric in rows.compare(rows.teacher_logits)],
    )


def refusals(rungs: Sequence[Rung], most: float) -> dict[str, str]:
    """Why a quantized file is not to be chosen, by its name: it loses more than `most`, or is slow."""
    dynamic = min((rung.latency_ratio for rung in rungs if rung.scheme == "w8a8_dynamic"), default=float("inf"))
    found = {}
    for rung in rungs:
        if not rung.drop <= most:
            found[rung.name] = f"loses {rung.drop:.4f}"
        elif rung.latency_ratio >= 1 and rung.scheme != "fp32":
            found[rung.name] = SLOWER
        elif rung.scheme == "w8a8" and rung.latency_ratio > STATIC_SLOWER * dynamic:
            found[rung.name] = f"{rung.latency_ratio / dynamic:.2f} times as slow as dynamic"
    return found


def choose(rungs: Sequence[Rung], most: float) -> Rung | None:
    """The fastest file that loses no more than `most`; of equally fast ones the first, which cost the least to make.

    A static file that is slower than the dynamic one is taken where no other keeps the accuracy, and the fp32 file
    where all that keep it are slower than that. None: no quantized file keeps it.
    """
    refused, keeping = refusals(rungs, most), [rung for rung in rungs if rung.drop <= most and rung.scheme != "fp32"]
    kept = [rung for rung in keeping if rung.name not in refused]
    kept = kept or [rung for rung in keeping if rung.latency_ratio < 1]
    if keeping and not kept:
        return next((rung for rung in rungs if rung.scheme == "fp32"), None)
    fastest = min((rung.latency_ratio for rung in kept), default=0.0)
    return next((rung for rung in kept if rung.latency_ratio <= AS_FAST * fastest), None)


def settled(rungs: Sequence[Rung], most: float) -> bool:
    """Whether a file keeps the accuracy, and none that is still to be made would be faster.

    Where INT8 itself is slower than fp32 here, it stays so whatever the weights; a static file that is slower than a
    dynamic one, which loses too much, leaves hope of a dynamic one that does not.
    """
    refused = refusals(rungs, most)
    quantized = [rung for rung in rungs if rung.scheme != "fp32"]
    return any(rung.drop <= most and refused.get(rung.name, SLOWER) == SLOWER for rung in quantized)


def best_so_far(rungs: Sequence[Rung]) -> Rung:
    """Where none keeps the budget: of those that are faster than fp32, or of all, the one that loses the least."""
    quantized = [rung for rung in rungs if rung.scheme != "fp32"]
    faster = [rung for rung in quantized if rung.latency_ratio < 1]
    return min(faster or quantized, key=lambda rung: (rung.drop, rung.latency_ratio))


def pareto_front(rungs: Sequence[Rung]) -> list[str]:
    """The names of files that no other one beats: as small, as fast and as good, and better in one of these."""

    def cost(rung: Rung) -> tuple[float, float, float]:
        return rung.drop, rung.latency_ratio, rung.size_ratio

    return [
        rung.name
        for rung in rungs
        if not any(
            cost(other) != cost(rung) and all(a <= b for a, b in zip(cost(other), cost(rung), strict=True))
            for other in rungs
        )
    ]
