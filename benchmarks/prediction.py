"""How well latency is predicted: on this machine, of encoders that no constant was fitted to, and on a Raspberry Pi 4.

    python benchmarks/prediction.py                       everything that is not in the results yet
    python benchmarks/prediction.py raspberry_pi_4        some sections, anew

Sections: host_onnx, host_tflite, raspberry_pi_4. Each writes its part of benchmarks/results/prediction.json when it is
done; the table is benchmarks/results/prediction.md. On this machine the constants are fitted to the twelve probes of
`edgetf devices calibrate`, and tested on 40 other random encoders; a development set of 20 more is what the formula was
chosen on, and is shown beside it. All of them are written once into the cache, 10 GB in half an hour.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from parts.hat_rows import DRAWS, FILE, PLACE, RULES, draw, read_rows
from parts.prediction_table import markdown
from parts.sections import run_sections
from parts.timings import CLOCKS, anchor_ms, clock_of, steadied, timings

from edgetf.core.schemes import Format, Scheme
from edgetf.predict.read import read_graph
from edgetf.predict.roofline import TERMS, Roofline, Timed, counts_of, fit_roofline
from edgetf.stages.probe_shapes import PROBE_SCHEMES

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "prediction.json"
Tree = dict[str, Any]


def host(model_format: Format) -> Tree:
    """Fit on the probes, test on the others, of both schemes."""
    rows = {name: timings(name, model_format) for name in ("probes", "test", "development")}
    every = [row for each in rows.values() for row in each]
    clock = clock_of(every)
    usual = anchor_ms(every, clock)
    timed = {name: _timed(each, clock, usual) for name, each in rows.items()}
    schemes = {}
    for scheme in PROBE_SCHEMES:
        fit = fit_roofline([each for kind, each in timed["probes"] if kind == scheme])
        sets = {name: _tested(fit, [each for kind, each in timed[name] if kind == scheme]) for name in timed}
        constants = {name: round(value, 4) for name, value in zip(TERMS, fit.constants, strict=True)}
        schemes[scheme] = {"constants": constants, "cache_mb": fit.cache_mb, "n": len(fit.timed), **sets}
    together = [row for each in schemes.values() for row in each["test"]["rows"]]
    scatter = float(np.std(np.log([row[f"anchor_{clock}_ms"] for row in every])))
    return {"clock": CLOCKS[clock], "anchor_scatter": scatter, "schemes": schemes, "test": _summary(together)}


def _timed(rows: list[Tree], clock: str, usual: float) -> list[tuple[Scheme, Timed]]:
    found = []
    for row, ms in zip(rows, steadied(rows, clock, usual), strict=True):
        counts = counts_of(read_graph(Path(row["file"]), row["seq_len"]).ops)
        found.append((row["scheme"], Timed(row["architecture"], row["seq_len"], counts, ms)))
    return found


def _tested(fit: Roofline, timed: list[Timed]) -> Tree:
    rows = []
    for each in timed:
        found = fit.estimate(each.counts)
        rows.append(
            {
                "architecture": each.model,
                "seq_len": each.seq_len,
                "measured_ms": round(each.ms, 4),
                "predicted_ms": round(found.ms, 4),
                "interval95_ms": [round(found.low, 4), round(found.high, 4)],
            }
        )
    return {**_summary(rows), "rows": rows}


def _summary(rows: list[Tree]) -> Tree:
    """Of predictions beside what was measured."""
    measured, predicted = (np.array([row[f"{kind}_ms"] for row in rows]) for kind in ("measured", "predicted"))
    missed = np.abs(predicted / measured - 1)
    low, high = np.array([row["interval95_ms"] for row in rows]).T
    return {
        "n": len(rows),
        "median_error": float(np.median(missed)),
        "mean_error": float(missed.mean()),
        "within_20": float((missed <= 0.2).mean()),
        "inside": float(((low <= measured) & (measured <= high)).mean()),
        "interval_factor": float(np.median(high / predicted)),
    }


def raspberry_pi_4() -> Tree:
    """20 random fits on 100 rows, each tested on all others, for each rule of what a good measurement is."""
    path = PLACE / FILE
    if not path.is_file():
        return {"not_measured": f"{FILE} is not beside the repository"}
    every, found = read_rows(path), {}
    for rule in RULES:
        rows = every.kept(rule)
        draws = [draw(rows, seed) for seed in range(DRAWS)]
        means = {name: float(np.mean([getattr(each, name) for each in draws])) for name in vars(draws[0])}
        worst = {
            "mean_error": max(each.mean_error for each in draws),
            "within_10": min(each.within_10 for each in draws),
            "inside": min(each.inside for each in draws),
        }
        found[rule] = {"rows": len(rows.ms), "left_out": len(every.ms) - len(rows.ms), **means, "worst_draw": worst}
    return {"rules": found, "usual_spread": every.usual()}


SECTIONS = {
    "host_onnx": partial(host, "onnx"),
    "host_tflite": partial(host, "tflite"),
    "raspberry_pi_4": raspberry_pi_4,
}
PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer")

if __name__ == "__main__":
    run_sections(sys.argv[1:], SECTIONS, PACKAGES, RESULT, markdown)
