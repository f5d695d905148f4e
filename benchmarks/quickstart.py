"""The quickstart recipe from nothing, and once more: accuracy, size and latency of every variant, and the times.

    python benchmarks/quickstart.py

Writes benchmarks/results/quickstart.json and the table between the marks in README.md, and exits with 1 if a promise
of the recipe is not kept: for the best INT8 variant accuracy_drop <= 0.015 against its teacher, a quarter of the
latency of the teacher's fp32 ONNX file in the same process, 1/5.5 of its size; an ONNX and a TFLite INT8 variant
validated; everything reused within 15 s the second time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
RESULT = HERE / "results" / "quickstart.json"
COMMAND = "python benchmarks/quickstart.py"
MARKS = ("<!-- quickstart table -->", "<!-- end of quickstart table -->")
INT8 = ("onnx-w8a8_dynamic", "tflite-w8a8_dynamic")


def compress(out: Path, *more: str) -> tuple[dict[str, Any], float]:
    """One run through the CLI: its report, and the seconds by the wall clock."""
    words = [sys.executable, "-m", "edgetf", "compress", "recipe=quickstart", "--out", str(out), "--json", *more]
    started = time.monotonic()
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), time.monotonic() - started


def metric(variant: dict[str, Any], name: str) -> dict[str, Any]:
    """A metric of a variant by name."""
    return next(record for record in variant["metrics"] if record["name"] == name)


def summarize(report: dict[str, Any], first: float, second_report: dict[str, Any], second: float) -> dict[str, Any]:
    """What the JSON result holds."""
    teacher = report["teacher"]
    rows = []
    for variant in report["variants"]:
        device = variant["devices"][0]
        rows.append(
            {
                "name": variant["name"],
                "accuracy": metric(variant, "accuracy"),
                "accuracy_drop": metric(variant, "accuracy_drop"),
                "mcnemar_p": metric(variant, "mcnemar_p")["value"],
                "size_bytes": variant["size_bytes"],
                "size_ratio": round(teacher["size_bytes"] / variant["size_bytes"], 3),
                "latency_p50_ms": device["latency_p50_ms"],
                "latency_p90_ms": device["latency_p90_ms"],
                "reference_p50_ms": device["reference"]["latency_p50_ms"],
                "speedup": device["speedup"],
                "speedup_ci95": device["speedup_ci95"],
                "n": device["n"],
                "peak_rss_bytes": device["peak_rss_bytes"],
                "threads": device["threads"],
                "seq_len": device["seq_len"],
                "trusted": device["trusted"],
            }
        )
    device = report["variants"][0]["devices"][0]
    return {
        "schema": 1,
        "command": COMMAND,
        "made": report["made"],
        "machine": device["machine"],
        "seconds": {"first_run": round(first, 1), "second_run": round(second, 1)},
        "reused": all(stage["cached"] for stage in second_report["stages"]),
        "teacher": {**teacher, "metrics": [m for m in teacher["metrics"] if m["name"] == "accuracy"]},
        "variants": rows,
        "promises": promises(rows, second_report, second),
    }


def promises(rows: list[dict[str, Any]], second_report: dict[str, Any], second: float) -> dict[str, bool]:
    """Each promise, and whether it was kept."""
    int8 = [row for row in rows if row["name"] in INT8]
    kept = [
        row
        for row in int8
        if row["accuracy_drop"]["value"] <= 0.015 and row["speedup"] >= 4 and row["size_ratio"] >= 5.5
    ]
    return {
        "an INT8 variant loses at most 0.015, is 4 times as fast and 5.5 times as small": bool(kept),
        "an ONNX and a TFLite INT8 variant are validated": len(int8) == 2 and all(row["n"] >= 30 for row in int8),
        "the second run reuses every stage within 15 s": second <= 15
        and all(stage["cached"] for stage in second_report["stages"]),
    }


def table(result: dict[str, Any]) -> str:
    """The Markdown table with the machine, the commit and the command under it."""
    teacher = result["teacher"]
    accuracy = teacher["metrics"][0]
    lines = [
        "| | accuracy (95 %) | drop (95 %) | size | p50 | speed-up (95 %) | peak RSS |",
        "|--|--|--|--|--|--|--|",
        f"| teacher, onnx-fp32 | {accuracy['value']:.3f} ({span(accuracy['ci95'], 3)}) | – "
        f"| {teacher['size_bytes'] / 2**20:.1f} MiB | {teacher['latency_p50_ms']:.2f} ms | 1 | – |",
    ]
    for row in result["variants"]:
        acc, drop = row["accuracy"], row["accuracy_drop"]
        lines.append(
            f"| {row['name']} | {acc['value']:.3f} ({span(acc['ci95'], 3)}) "
            f"| {drop['value']:+.4f} ({span(drop['ci95'], 3)}) "
            f"| {row['size_bytes'] / 2**20:.1f} MiB (1/{row['size_ratio']:.1f}) | {row['latency_p50_ms']:.2f} ms "
            f"| {row['speedup']:.2f} ({span(row['speedup_ci95'], 2)}) | {row['peak_rss_bytes'] / 2**20:.0f} MiB |"
        )
    machine, made, first = result["machine"], result["made"], result["variants"][0]
    lines += [
        "",
        f"{accuracy['n']} evaluation rows; latency of one text of {first['seq_len']} tokens on {first['threads']} "
        f"thread, {first['n']} samples, each variant in turns with the teacher's file in one process. The run took "
        f"{result['seconds']['first_run']:.0f} s, the second one {result['seconds']['second_run']:.1f} s.",
        f"Machine: {machine['processor']}, {machine['cores']} cores ({', '.join(machine['instructions'])}). "
        f"Commit {made['commit']}. Command: `{result['command']}`.",
    ]
    return "\n".join(lines)


def span(ends: list[float], digits: int) -> str:
    """An interval."""
    return f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def put_into_readme(text: str) -> None:
    """Replace what stands between the marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    README.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> int:
    """Run, write, print; 1 if a promise is broken."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quickstart"
        report, first = compress(out, "--fresh")
        second_report, second = compress(out)
    result = summarize(report, first, second_report, second)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text = table(result)
    put_into_readme(text)
    print(text)
    for promise, kept in result["promises"].items():
        print(f"{'kept' if kept else 'BROKEN'}: {promise}")
    return 0 if all(result["promises"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
