"""Whether the verdict of an A/B comparison holds: on a machine left alone, and while another process loads every core.

    python benchmarks/measurement.py             both, twenty times for each pair
    python benchmarks/measurement.py idle        one of them, measured anew: idle, loaded

Two files are timed in turns in one process, as `edgetf bench A --against B` does. A is faster or slower where the 95 %
interval of the ratio, widened by the noise floor of `edgetf.validation.latency_gate`, lies on one side of 1; else there
is no difference. A flip is a faster and a slower in the same twenty. A run that is not trusted says why. Writes
benchmarks/results/measurement.json and measurement.md; exits with 1 if a verdict flipped in runs that were trusted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgetf.core.artifact import load
from edgetf.core.made import made_with
from edgetf.core.metrics import percentile
from edgetf.core.places import cache_folder
from edgetf.targets.local import ask_runner
from edgetf.validation.golden import deployable_model
from edgetf.validation.latency_gate import Reading, standing
from edgetf.validation.row import Settings
from edgetf.validation.timings import timing_of

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "measurement.json"
TABLE = HERE / "results" / "measurement.md"
RUN = cache_folder() / "benchmark-runs" / "quickstart"
PAIRS = {
    "student INT8 and teacher fp32, ONNX": ("onnx-w8a8_dynamic", "teacher-onnx-fp32"),
    "student INT8, ONNX and TFLite": ("onnx-w8a8_dynamic", "tflite-w8a8_dynamic"),
    "student INT8, ONNX, and itself": ("onnx-w8a8_dynamic", "onnx-w8a8_dynamic"),
}
ROUNDS, SEQ_LEN = 20, 64
WORDS = {"kept": "faster", "missed": "slower", "within": "no difference"}
BUSY = """
import multiprocessing, os, sys
def spin():
    while True:
        sum(range(10_000))
if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    for _ in range(os.cpu_count()):
        multiprocessing.Process(target=spin, daemon=True).start()
    sys.stdin.read()
"""
Tree = dict[str, Any]


@contextmanager
def every_core_busy() -> Iterator[None]:
    """Another process that keeps every core busy, until the block ends."""
    other = subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        if other.stdin is not None:
            other.stdin.close()  # it ends at its input's end, and its daemons with it
        other.wait()


def compared(one: str, other: str) -> Tree:
    """One comparison in a fresh process."""
    asked = Settings()
    models = [deployable_model(load(RUN / name)).to_json() for name in (one, other)]
    request = {"do": "bench", "models": models, "threads": 1, "seq_len": SEQ_LEN, "text": "a text to be timed"}
    timing = timing_of(ask_runner({**request, "samples": asked.samples, "seconds": asked.seconds}))
    low, high = timing.speedup_ci95 or (0.0, 0.0)
    reading = Reading(timing.speedup or 0.0, low, high, timing.n)
    return {"verdict": WORDS[standing("speedup", 1.0, reading)], "speedup": timing.speedup, "ci95": [low, high],
            "p50_ms": timing.latency_p50_ms, "n": timing.n, "doubts": timing.doubts}  # fmt: skip


def section(loaded: bool) -> Tree:
    """Every pair, twenty times."""
    found: Tree = {}
    for name, pair in PAIRS.items():
        if loaded:
            with every_core_busy():
                found[name] = [compared(*pair) for _ in range(ROUNDS)]
        else:
            found[name] = [compared(*pair) for _ in range(ROUNDS)]
    return found


def flipped(runs: list[Tree], trusted_only: bool) -> bool:
    """Whether one file was faster in some of the runs and slower in others."""
    said = {run["verdict"] for run in runs if not (trusted_only and run["doubts"])}
    return {"faster", "slower"} <= said


def markdown(results: Tree) -> str:
    """The table with its command, machine and commit."""
    columns = ("machine", "A and B", "verdicts on A", "ratio, median (range)", "A, median", "untrusted", "flips")
    lines = [f"| {' | '.join(columns)} |", "|--" * len(columns) + "|"]
    for name, part in results.items():
        for pair, runs in part["pairs"].items():
            ratios = [run["speedup"] for run in runs]
            verdicts = ", ".join(f"{word} {n}" for word, n in Counter(run["verdict"] for run in runs).most_common())
            p50 = percentile([run["p50_ms"] for run in runs], 50)
            ratio = f"{percentile(ratios, 50):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            doubted = f"{sum(bool(run['doubts']) for run in runs)} of {len(runs)}"
            cells = (name, pair, verdicts, ratio, f"{p50:.3f} ms", doubted, "yes" if flipped(runs, False) else "none")
            lines.append(f"| {' | '.join(cells)} |")
    part = next(iter(results.values()))
    made = part["made"]
    lines += ["", f"{ROUNDS} comparisons a line, each in a fresh process, {SEQ_LEN} tokens, one thread. "
              f"`python benchmarks/measurement.py`; {os.cpu_count()} cores, commit {made['commit']}.", ""]  # fmt: skip
    return "\n".join(lines)


def main(names: list[str]) -> int:
    """Measure, write, print; 1 if a verdict that was trusted flipped."""
    sections = {"idle": False, "loaded": True}
    unknown = [name for name in names if name not in sections]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not a section; allowed: {', '.join(sections)}")
    subprocess.run([sys.executable, "-m", "edgetf", "compress", "recipe=quickstart", "--out", str(RUN)], check=True)
    results: Tree = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    for name in names or list(sections):
        results[name] = {"made": made_with("onnxruntime", "ai-edge-litert"), "pairs": section(sections[name])}
        RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        TABLE.write_text(markdown(results), encoding="utf-8")
    print(markdown(results))
    return int(any(flipped(runs, True) for part in results.values() for runs in part["pairs"].values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
