"""The results of benchmarks/prediction.py as Markdown."""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]
TITLES = {"host_onnx": "This machine, ONNX Runtime", "host_tflite": "This machine, LiteRT"}
SETS = {"test": "test", "development": "development (the formula was chosen on it)", "probes": "the probes themselves"}
SOURCE = (
    "Data: 2,000 encoder-decoders measured with PyTorch by the authors of Hardware-Aware Transformers (MIT License); "
    "encoder and decoder together. "
    "A rule on the measurement's own standard deviation leaves rows out of training and test alike."
)


def markdown(results: Tree) -> str:
    """Every section that is there, each with its command, machine and commit under it."""
    lines = ["# Predicted latency", ""]
    for name, section in results.items():
        rows = section["rows"]
        if "not_measured" in rows:
            lines += [f"## {name}", "", f"Not measured: {rows['not_measured']}.", ""]
            continue
        lines += _host(name, rows) if name in TITLES else _raspberry_pi_4(rows)
        lines += ["", _made(name, section, rows), ""]
    return "\n".join(lines)


def _host(name: str, rows: Tree) -> list[str]:
    lines = [f"## {TITLES[name]}", ""]
    head = ("scheme", "set", "n", "median error", "mean error", "within 20 %", "inside the 95 % interval", "its factor")
    lines += _head(head)
    for scheme, found in rows["schemes"].items():
        lines += [_errors(scheme, words, found[each]) for each, words in SETS.items()]
    lines.append(_errors("both", SETS["test"], rows["test"]))
    lines += ["", *_head(("constant", *rows["schemes"]))]
    schemes = list(rows["schemes"].values())
    lines += [
        _line((term, *(f"{found['constants'][term]:.3g}" for found in schemes))) for term in schemes[0]["constants"]
    ]
    lines.append(_line(("cache, 10^6 bytes", *(f"{found['cache_mb']:g}" for found in schemes))))
    fitted = schemes[0]["n"]
    scatter = f"From one sitting to another the anchor's median scatters by {rows['anchor_scatter']:.1%}."
    return [*lines, "", f"Fitted to {fitted} medians of 12 models a scheme. Clock: {rows['clock']}. {scatter}"]


def _errors(scheme: str, words: str, found: Tree) -> str:
    return _line(
        (scheme, words, str(found["n"]), f"{found['median_error']:.1%}", f"{found['mean_error']:.1%}",
         f"{found['within_20']:.0%}", f"{found['inside']:.0%}", f"{found['interval_factor']:.2f}")
    )  # fmt: skip


def _raspberry_pi_4(rows: Tree) -> list[str]:
    head = ("rows", "n", "left out", "mean error", "within 10 %", "inside the 95 % interval", "worst of 20 draws")
    lines = ["## A Raspberry Pi 4: fitted on 100 random rows, tested on the rest, mean of 20 draws", "", *_head(head)]
    for rule, found in rows["rules"].items():
        worst = found["worst_draw"]
        lines.append(
            _line(
                (
                    rule,
                    f"{found['rows']:,}",
                    str(found["left_out"]),
                    f"{found['mean_error']:.2%}",
                    f"{found['within_10']:.2%}",
                    f"{found['inside']:.1%}",
                    f"{worst['mean_error']:.2%}, {worst['within_10']:.2%}, {worst['inside']:.1%}",
                )
            )  # fmt: skip
        )
    return [*lines, "", SOURCE]


def _head(columns: tuple[str, ...]) -> list[str]:
    return [_line(columns), f"|{'--|' * len(columns)}"]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _made(name: str, section: Tree, rows: Tree) -> str:
    made, machine = section["made"], section["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores" + (", 1 thread, batch 1" if "clock" in rows else "")
    return f"`python benchmarks/prediction.py {name}`: {where}; commit {made['commit']}; {versions}."
