"""The results of the compression benchmark as Markdown tables, and the front as a plot."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t

Tree = dict[str, Any]
TITLES = {
    "film_reviews": "Film reviews, two classes",
    "short_texts": "Short texts, three classes",
    "ablation": "What each part brings: film reviews, 2 layers, 442 steps, three seeds",
    "pruning": "Pruning the teacher without training, at one measured latency: film reviews",
    "targets": "Does the search meet its target",
    "post_training": "A quarter of the latency off, without training, with and without the latency table in the cache",
    "vocabulary": "Fewer word pieces, nothing else",
    "memory": "Peak memory",
    "mobilebert": "MobileBERT: progressive transfer against plain logits",
}


def markdown(result: Tree, wanted: dict[str, tuple[float, float, float]]) -> str:
    """Every section that was run, each with its command, machine and commit under it."""
    parts = ["# Compression benchmark", ""]
    writers = {
        "film_reviews": lambda rows: _front(rows, wanted["film_reviews"]),
        "short_texts": lambda rows: _front(rows, wanted["short_texts"]),
        "ablation": _ablation,
        "pruning": _searches,
        "targets": _searches,
        "post_training": _searches,
        "vocabulary": _vocabulary,
        "memory": _memory,
        "mobilebert": _mobilebert,
    }
    for name, write in writers.items():
        section = result["sections"].get(name)
        if section is None:
            parts += [f"## {TITLES[name]}", "", "Not measured.", ""]
            continue
        made, machine = section["made"], section["machine"]
        parts += [f"## {TITLES[name]}", "", *write(section["rows"]), ""]
        parts += [f"{machine['processor']}, {machine['cores']} cores, 1 thread, batch 1; commit {made['commit']}; "
                  f"`{section['command']}`, {section['seconds']} s.", ""]  # fmt: skip
    return "\n".join(parts)


def _value(metric: Tree) -> str:
    low, high = metric["ci95"]
    return f"{metric['value']:.4f} ({low:.4f} to {high:.4f})"


def _front(models: Tree, wanted: tuple[float, float, float]) -> list[str]:
    n, size = models["teacher"]["accuracy"]["n"], models["teacher"]["size_bytes"]
    lines = [f"n = {n}; students and optimum's file in INT8, the teacher in fp32. Milliseconds are of a run right "
             "after one of the same model; the last column compares runs right after another model's, whose weights "
             "fill the caches.", "",
             "| | accuracy (95 %) | drop (95 %) | MB | smaller | ms, 32 / 128 tokens | faster, 32 / 128 "
             "| than optimum's | after another model |",
             "|--|--|--|--|--|--|--|--|--|"]  # fmt: skip
    for name, model in models.items():
        latency, against = model["latency"], model["against_optimum"]
        drop = _value(model["accuracy_drop"]) if "accuracy_drop" in model else "–"
        lines.append(
            f"| {name} | {_value(model['accuracy'])} | {drop} | {model['size_bytes'] / 1e6:.2f} "
            f"| {size / model['size_bytes']:.1f} | {latency['32']['p50_ms']:.2f} / {latency['128']['p50_ms']:.2f} "
            f"| {latency['32']['speedup']:.1f} / {latency['128']['speedup']:.1f} "
            f"| {against['32']['speedup']:.1f} / {against['128']['speedup']:.1f} "
            f"| {latency['32']['after_another_speedup']:.1f} / {latency['128']['after_another_speedup']:.1f} |"
        )
    return [*lines, "", _verdict(models, wanted, size)]


def _verdict(models: Tree, wanted: tuple[float, float, float], size: int) -> str:
    """Which students keep what was wanted, and the one that comes nearest in accuracy."""
    faster, smaller, drop = wanted
    students = {name: model for name, model in models.items() if name not in ("teacher", "optimum")}
    fast = {
        name: model
        for name, model in students.items()
        if min(latency["speedup"] for latency in model["latency"].values()) >= faster
        and size / model["size_bytes"] >= smaller
    }
    kept = [name for name, model in fast.items() if model["accuracy_drop"]["value"] <= drop]
    asked = f"wanted: {faster} times faster at both lengths, {smaller} times smaller, drop at most {drop}"
    if kept:
        return f"Met by {'; '.join(kept)} ({asked})."
    if not fast:
        return f"Not met: no student is fast and small enough ({asked})."
    best = min(fast, key=lambda name: float(fast[name]["accuracy_drop"]["value"]))
    return f"Not met: {best} drops {fast[best]['accuracy_drop']['value']:.4f} ({asked})."


def _ablation(rows: Tree) -> list[str]:
    lines = ["| | accuracy, mean ± sd of the seeds | over logits (95 %) | each seed |", "|--|--|--|--|"]
    base = rows["logits"]["accuracy"]
    for name, row in rows.items():
        each = ", ".join(f"{score:.4f}" for score in row["accuracy"])
        gain = "–" if name == "logits" else _gain(row["accuracy"], base)
        lines.append(f"| {name} | {row['mean']:.4f} ± {row['sd']:.4f} | {gain} | {each} |")
    return lines


def _gain(ours: list[float], base: list[float]) -> str:
    """The mean difference of seeds taken in pairs, with Student's interval."""
    gains = [one - other for one, other in zip(ours, base, strict=True)]
    mean = statistics.mean(gains)
    half = float(student_t.ppf(0.975, len(gains) - 1)) * statistics.stdev(gains) / len(gains) ** 0.5
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


def _searches(rows: Tree) -> list[str]:
    lines = ["| | wanted, times as fast | measured | accuracy (95 %) | drop (95 %) | seconds |", "|--|--|--|--|--|--|"]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['wanted_speedup']:.2f} | {row['measured_speedup']:.2f} "
            f"({row['measured_speedup'] / row['wanted_speedup'] - 1:+.1%}) | {_value(row['accuracy'])} "
            f"| {_value(row['accuracy_drop'])} | {row['stage_seconds']:.0f} |"
        )
    return lines


def _vocabulary(rows: Tree) -> list[str]:
    return [
        f"12,000 word pieces: {rows['size_bytes'] / 1e6:.1f} MB, {1 - rows['share']:.1%} smaller; accuracy drop "
        f"{_value(rows['accuracy_drop'])}, n = {rows['accuracy']['n']}. Of {rows['texts_of_kept_pieces']} evaluation "
        f"texts all of whose pieces are kept, {rows['read_the_same']} are read as before."
    ]


def _memory(rows: Tree) -> list[str]:
    return [
        f"Peak of distillation {rows['distill_bytes'] / 2**20:.0f} MiB, of fine-tuning the same student "
        f"{rows['finetune_bytes'] / 2**20:.0f} MiB: {rows['ratio']:.2f} times."
    ]


def _mobilebert(rows: Tree) -> list[str]:
    lines = ["A small MobileBERT (4 layers, 3 epochs of film reviews): far from the steps its paper takes.", ""]
    return lines + [f"- {name}: accuracy {_value(row['accuracy'])}" for name, row in rows.items()]


def plot(models: Tree, data: str, folder: Path) -> None:
    """Accuracy against milliseconds and against megabytes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for name, model in models.items():
        accuracy = model["accuracy"]
        error = [[accuracy["value"] - accuracy["ci95"][0]], [accuracy["ci95"][1] - accuracy["value"]]]
        sizes = (model["latency"]["128"]["p50_ms"], model["size_bytes"] / 1e6)
        for axis, x in zip(axes, sizes, strict=True):
            axis.errorbar(x, accuracy["value"], yerr=error, fmt="o", capsize=2)
            axis.annotate(name, (x, accuracy["value"]), textcoords="offset points", xytext=(5, 4), fontsize=8)
    for axis, label in zip(axes, ("ms at 128 tokens", "MB"), strict=True):
        axis.set(xscale="log", xlabel=label)
    axes[0].set_ylabel("accuracy")
    figure.suptitle(TITLES[data])
    figure.tight_layout()
    figure.savefig(folder / f"compression_{data}.svg", metadata={"Date": None})
    pyplot.close(figure)
