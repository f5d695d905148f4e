"""How far the timings of one file differ from themselves, which is what the noise floor of a budget rests on.

    python benchmarks/noise_floor.py

A file is timed in turns with itself, each time in a fresh process: its speed-up is 1, and what is measured beside 1 is
noise. So is what its percentiles differ by from one process to the next. Every pair is also held against two bounds as
`edgetf validate` does it, retry included: `speedup=1`, which must not be missed, and `speedup=1.1`, which must not be
kept. Writes benchmarks/results/noise_floor.json and the table between the marks in docs/ci.md; exits with 1 if a
verdict was wrong, or if nine of ten deviations are not within the floors of `edgetf.validation.latency_gate`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.artifact import load
from edgetf.core.made import made_with
from edgetf.core.metrics import percentile
from edgetf.core.places import cache_folder
from edgetf.targets.local import ask_runner
from edgetf.validation.golden import deployable_model
from edgetf.validation.latency_gate import (
    NOISE_FLOOR,
    PERCENTILES,
    Reading,
    pooled,
    readings,
    reasons_to_retry,
    run_to_keep,
    samples_of_retry,
    timed_checks,
)
from edgetf.validation.row import Settings
from edgetf.validation.timings import Timing, timing_of

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "noise_floor.json"
PAGE = HERE.parent / "docs" / "ci.md"
COMMAND = "python benchmarks/noise_floor.py"
MARKS = ("<!-- noise floor table -->", "<!-- end of noise floor table -->")
RUN = cache_folder() / "benchmark-runs" / "quickstart"
FILES = (("onnx-w8a8_dynamic", 16), ("onnx-w8a8_dynamic", 64), ("teacher-onnx-fp32", 64))
BOUNDS = {1.0: "fail", 1.1: "pass"}  # each with the verdict that would be wrong
ROUNDS = 10

Answer = dict[str, Any]


def take(folder: Path, seq_len: int, samples: int, seconds: float) -> Answer:
    """A file in turns with itself, in a fresh process."""
    model = deployable_model(load(folder)).to_json()
    request = {"do": "bench", "models": [model, model], "threads": 1, "seq_len": seq_len, "text": "a text to be timed"}
    return ask_runner({**request, "samples": samples, "seconds": seconds})


def take_two(folder: Path, seq_len: int) -> tuple[Answer, Answer]:
    """A run, and the one that a bound within its noise would bring."""
    asked = Settings()
    first = take(folder, seq_len, asked.samples, asked.seconds)
    return first, take(folder, seq_len, samples_of_retry(timing_of(first).n, {}), 0.0)


def found_in(answer: Answer) -> dict[str, Reading]:
    """The speed-up of a file over itself, as the gate reads it."""
    timing = timing_of(answer)
    return readings(answer["samples_ms"][0], {"speedup": timing.speedup}, timing.speedup_ci95)


def verdict(first: Answer, second: Answer, bound: float) -> dict[str, Any]:
    """What the gate says of a bound on the speed-up, with the second run where it would have asked for one."""
    budget, answer, retries = {"speedup": bound}, first, 0
    if reasons_to_retry(budget, found_in(first), timing_of(first).doubts):
        kept = run_to_keep(not timing_of(first).doubts, not timing_of(second).doubts)
        answer, retries = {"first": first, "second": second, "both": pooled(first, second)}[kept], 1
    check = timed_checks(budget, found_in(answer), timing_of(answer).doubts, retries)["speedup"]
    return {"verdict": check.verdict, "retries": retries}


def spread(values: list[float]) -> dict[str, float]:
    """How far values are from their median, as shares: the nine in ten nearest are within `p90`."""
    away = np.abs(np.asarray(values) / np.median(values) - 1)
    return {"p90": round(percentile(away.tolist(), 90), 4), "max": round(float(away.max()), 4)}


def measure(name: str, seq_len: int) -> dict[str, Any]:
    """One row of the table."""
    pairs = [take_two(RUN / name, seq_len) for _ in range(ROUNDS)]
    calm: list[Timing] = [timing_of(first) for first, _ in pairs if not timing_of(first).doubts]
    if not calm:
        raise SystemExit(f"{name}: no run can be trusted; {'; '.join(timing_of(pairs[0][0]).doubts)}")
    away = [abs(timing.speedup - 1) for timing in calm if timing.speedup]
    judged = {f"{bound:g}": [verdict(*pair, bound) for pair in pairs] for bound in BOUNDS}
    return {
        "file": name,
        "seq_len": seq_len,
        "median_ms": round(float(np.median([timing.latency_p50_ms for timing in calm])), 3),
        "samples": round(float(np.median([timing.n for timing in calm]))),
        "rounds": ROUNDS,
        "trusted": len(calm),
        "speedup": {"p90": round(percentile(away, 90), 4), "max": round(max(away), 4)},
        **{key: spread([getattr(timing, key) for timing in calm]) for key in PERCENTILES},
        "verdicts": {
            bound: {each: [one["verdict"] for one in found].count(each) for each in ("pass", "fail", "not_measured")}
            | {"timed_twice": sum(one["retries"] for one in found)}
            for bound, found in judged.items()
        },
        "load_average": [round(pairs[k][0]["load_average"], 2) for k in (0, -1)],
        "machine": pairs[0][0]["machine"],
    }


def table(result: dict[str, Any]) -> str:
    """The Markdown table with the machine, the commit and the command under it."""
    keys = ("speedup", *PERCENTILES)
    lines = [
        "| a file beside itself | p50 | trusted | speed-up off 1 | p50 | p90 | p99 | `speedup=1` kept, open, missed "
        "| `speedup=1.1` kept, open, missed |",
        "|--|--|--|--|--|--|--|--|--|",
    ]
    for row in result["rows"]:
        away = [f"{100 * row[key]['p90']:.1f} % ({100 * row[key]['max']:.1f} %)" for key in keys]
        said = [", ".join(str(row["verdicts"][f"{b:g}"][v]) for v in ("pass", "not_measured", "fail")) for b in BOUNDS]
        cells = [f"{row['file']}, {row['seq_len']} tokens", f"{row['median_ms']:.2f} ms",
                 f"{row['trusted']} of {row['rounds']}", *away, *said]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    rows, made = result["rows"], result["made"]
    machine, loads = rows[0]["machine"], (rows[0]["load_average"][0], rows[-1]["load_average"][1])
    lines += [
        "",
        "Nine of ten trusted runs are within the first share, in brackets the largest; the percentiles are compared "
        "from one process to the next.",
        f"Machine: {machine['processor']}, {machine['cores']} cores, load average {loads[0]} to {loads[1]}. "
        f"Commit {made['commit']}. Command: `{COMMAND}`.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, write, print; 1 if a promise is broken."""
    subprocess.run([sys.executable, "-m", "edgetf", "compress", "recipe=quickstart", "--out", str(RUN)], check=True)
    rows = []
    for each in FILES:
        rows.append(measure(*each))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    promises = {
        "no bound that a file just keeps is missed, and none that it misses by 10 % is kept": not any(
            row["verdicts"][f"{bound:g}"][wrong] for row in rows for bound, wrong in BOUNDS.items()
        ),
        "nine of ten deviations are within the noise floor": all(
            row[key]["p90"] <= floor for row in rows for key, floor in NOISE_FLOOR.items()
        ),
    }
    made = made_with("onnxruntime", "numpy")
    result = {"schema": 1, "command": COMMAND, "made": made, "floors": NOISE_FLOOR, "rows": rows, "promises": promises}
    RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text = table(result)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")
    print(text)
    for promise, kept in promises.items():
        print(f"{'kept' if kept else 'BROKEN'}: {promise}")
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
