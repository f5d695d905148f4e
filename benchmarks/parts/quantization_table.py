"""The results of benchmarks/quantization.py as Markdown."""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]
LENGTHS = ("32", "128")
COLUMNS = ("file", "accuracy", "drop (95 %)", "agreement", "McNemar p", "MB", "of fp32",
           *(f"{n} tokens" for n in LENGTHS), "quantized")  # fmt: skip
NOTE = (
    "Latency: medians in turns in one process, over that of fp32, which is rewritten as all of ours are. Drop and "
    "agreement: against the model's own fp32. The peers start from fp32 as torch writes it; NNCF is calibrated by 128 "
    "rows. Files of fp8_e4m3 are simulated on this processor: their latency says nothing of hardware that has it."
)


def markdown(results: Tree) -> str:
    """Every section that is there, each with its command, machine and commit under it."""
    writers = {"teacher": _model, "student": _model, "faults": _faults, "memory": _memory}
    lines = ["# Quantization", ""]
    for name, write in writers.items():
        if name in results:
            lines += [*write(name, results[name]["rows"]), "", _made(name, results[name]), ""]
    return "\n".join(lines)


def _model(name: str, formats: Tree) -> list[str]:
    """A table a format: every scheme, what the ladder chose, the peers."""
    lines: list[str] = []
    for model_format, part in formats.items():
        verdict, files = part["verdict"], part["files"]
        n = files["fp32"]["metrics"]["accuracy"]["n"]
        lines += [f"## The {name} as {model_format}, n = {n:,}", "", *_head(COLUMNS)]
        lines += [_row(file, row, files["fp32"]["size_bytes"]) for file, row in files.items()]
        over = " and ".join(_times(pair, length) for length, pair in verdict["over_best"].items())
        chosen = f"`auto` is what the ladder chose: {verdict['chosen']}, drop {verdict['drop']:.4f}."
        beside = f"Its latency over that of the fastest scheme by hand, {verdict['best_by_hand']}: {over}."
        lines += ["", f"{chosen} {beside}", ""]
    return [*lines, NOTE]


def _times(pair: Tree, length: str) -> str:
    low, high = pair["ratio_ci95"]
    return f"{pair['ratio']:.3f} ({low:.3f} to {high:.3f}) at {length} tokens"


def _row(file: str, row: Tree, whole: int) -> str:
    metrics, latency, drop = row["metrics"], row["latency"], row["metrics"]["accuracy_drop"]
    low, high = drop["ci95"] or (0.0, 0.0)
    share = row["quantized_share"]
    cells = (file, f"{metrics['accuracy']['value']:.4f}", f"{drop['value']:+.4f} ({low:.4f} to {high:.4f})",
             f"{metrics['agreement']['value']:.4f}", f"{metrics['mcnemar_p']['value']:.3f}",
             f"{row['size_bytes'] / 1e6:.2f}", f"{row['size_bytes'] / whole:.3f}",
             *(f"{latency[n]['ratio']:.2f} ({latency[n]['p50_ms']:.2f} ms)" for n in LENGTHS),
             "–" if share is None else f"{share:.2f}")  # fmt: skip
    return _line(cells)


def _faults(name: str, rows: Tree) -> list[str]:
    found = [(fault, "yes" if row["caught"] else "**no**", row["by"], row["message"]) for fault, row in rows.items()]
    return ["## Planted faults", "", *_head(("fault", "caught", "by", "message")), *map(_line, found)]


def _memory(name: str, rows: Tree) -> list[str]:
    found = [
        (method, f"{row['100'] / 2**20:.0f} MiB", f"{row['5000'] / 2**20:.0f} MiB", f"{row['ratio']:.3f}")
        for method, row in rows.items()
    ]
    title = "## Peak resident memory of a process that calibrates a student"
    return [title, "", *_head(("method", "100 rows", "5,000 rows", "ratio")), *map(_line, found)]


def _head(columns: tuple[str, ...]) -> list[str]:
    return [_line(columns), f"|{'--|' * len(columns)}"]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _made(name: str, section: Tree) -> str:
    made, machine = section["made"], section["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores, 1 thread, batch 1"
    return f"`python benchmarks/quantization.py {name}`: {where}; commit {made['commit']}; {versions}."
