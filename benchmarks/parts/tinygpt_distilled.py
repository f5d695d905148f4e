"""Distilled against trained alone: the same student, texts, steps and seed, with the teacher's distributions or not.

The teacher is that of the recipe's run. Perplexity is taken on the exported fp32 file over the test documents. Both
kinds also learn at half and at twice the learning rate of the recipe, so that a rate that suits one of them does not
decide. Nothing is timed, so each learns in one thread and leaves the other cores to other work.
"""

from __future__ import annotations

import json
from statistics import mean, stdev

from parts.tinygpt_run import RUN, Tree, compress, metrics

SEEDS = (0, 1, 2)
KINDS = {"distilled": (), "alone": ("distill.teacher=0", "distill.labels=1")}
RATES = (4e-3, 2e-3, 8e-3)


def distilled() -> Tree:
    """Test perplexity of each kind, learning rate and seed, and how much lower that of the distilled one is."""
    teacher = json.dumps({"source": str(RUN / "1-pretrain")})
    rows = []
    for rate in RATES:
        for seed in SEEDS:
            for kind, words in KINDS.items():
                out = RUN.with_name(f"tinygpt-{kind}-{rate:g}-{seed}")
                report = compress(
                    out, f"teacher={teacher}", "pretrain=null", "quantize=null", f"seed={seed}",
                    f"distill.learning_rate={rate:g}", "distill.threads=1", *words,
                )  # fmt: skip
                found = metrics(report["variants"][0])["perplexity"]
                rows.append({"kind": kind, "learning_rate": rate, "seed": seed, "perplexity": found})
    return {"rows": rows, "teacher": metrics(report["teacher"])["perplexity"], "summary": summary(rows)}


def summary(rows: list[Tree]) -> Tree:
    """Of each kind at its better rate the mean over the seeds, and the paired ratios at equal seeds.

    >>> rows = [{"kind": kind, "learning_rate": 1.0, "seed": seed, "perplexity": {"value": value + seed}}
    ...         for kind, value in (("distilled", 8.0), ("alone", 10.0)) for seed in (0, 1)]
    >>> found = summary(rows)
    >>> found["distilled"]["mean"], [round(ratio, 3) for ratio in found["ratios"]]
    (8.5, [0.8, 0.818])
    """
    best = {}
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        by_rate: dict[float, list[float]] = {}
        for row in own:
            by_rate.setdefault(row["learning_rate"], []).append(row["perplexity"]["value"])
        rate = min(by_rate, key=lambda each: mean(by_rate[each]))
        values = by_rate[rate]
        best[kind] = {"learning_rate": rate, "values": values, "mean": mean(values), "sd": stdev(values)}
    pairs = zip(best["distilled"]["values"], best["alone"]["values"], strict=True)
    return {**best, "ratios": [ours / theirs for ours, theirs in pairs]}
