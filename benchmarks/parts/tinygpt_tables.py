"""The tables of benchmarks/tinygpt.py."""

from __future__ import annotations

from collections.abc import Callable

from parts.tinygpt_run import Tree

MIB = 1 << 20
COMMAND = "python benchmarks/tinygpt.py"


def markdown(results: Tree) -> str:
    """Every section that is there, each with its command, machine and commit."""
    tables: dict[str, Callable[[Tree], list[str]]] = {
        "recipe": _run,
        "distilled": _distilled,
        "genai": _genai,
        "streaming": _streaming,
        "gemma": _run,
        "recovered": _run,
        "speed": _speed,
    }
    titles = {
        "recipe": "The recipe `tinygpt`",
        "distilled": "Distilled against trained alone",
        "genai": "The same files in onnxruntime-genai",
        "streaming": "20,000 tokens through a window of 512",
        "gemma": "Gemma 3 270M, 16,384 of its tokens, nothing trained",
        "recovered": "The recipe `tinygpt_gemma`",
        "speed": "A decode step beside transformers",
    }
    lines = ["# Language models", ""]
    for name, table in tables.items():
        if name in results:
            lines += [f"## {titles[name]}", "", *table(results[name]["rows"]), "", _made(name, results[name]), ""]
    return "\n".join(lines)


def _made(name: str, section: Tree) -> str:
    machine, versions = section["machine"], section["made"]["versions"]
    named = ", ".join(f"{package} {version}" for package, version in versions.items())
    return (
        f"`{COMMAND} {name}`; {machine['processor']}, {machine['cores']} cores ({', '.join(machine['instructions'])}); "
        f"{named}; commit {section['made']['commit'] or 'not known'}."
    )


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [columns, ["--"] * len(columns), *rows]]


def _value(record: Tree, digits: int) -> str:
    """A metric with its interval."""
    ends = f" ({record['ci95'][0]:.{digits}f} to {record['ci95'][1]:.{digits}f})" if record["ci95"] else ""
    return f"{record['value']:.{digits}f}{ends}"


def _run(rows: Tree) -> list[str]:
    """A run's variants, and their decoding by context."""
    teacher, variants = rows["teacher"], rows["variants"]
    own = teacher["metrics"]
    cells = [["teacher, onnx-fp32", f"{teacher['params']:,}", f"{teacher['size_bytes'] / MIB:.1f} MiB",
              _value(own["perplexity"], 2), "1", f"{own['bits_per_byte']['value']:.3f}", "–", "–", "–"]]  # fmt: skip
    for variant in variants:
        found = variant["metrics"]
        cells.append(
            [variant["name"], f"{variant['params']:,}", _size(variant, variants[0]), _value(found["perplexity"], 2),
             _value(found["perplexity_ratio"], 3), f"{found['bits_per_byte']['value']:.3f}",
             f"{found['kl']['value']:.4f}", f"{found['flip_rate']['value']:.3f}",
             f"{variant['peak_rss_bytes'] / MIB:.0f} MiB"]
        )  # fmt: skip
    tokens = own["perplexity"]["n"]
    steps = ", ".join(f"{stage['name']} {stage['seconds']:.0f} s" for stage in rows["stages"])
    lines = _table(["", "parameters", "size", "perplexity (95 %)", "over the teacher's (95 %)", "bits a byte",
                    "KL, nats", "flips", "peak RSS"], cells)  # fmt: skip
    lines += ["", f"{tokens:,} test tokens, on the exported files. The run took {rows['seconds']:.0f} s: {steps}.", ""]
    return lines + _decoding(variants)


def _size(variant: Tree, fp32: Tree) -> str:
    return f"{variant['size_bytes'] / MIB:.2f} MiB ({variant['size_bytes'] / fp32['size_bytes']:.3f})"


def _decoding(variants: list[Tree]) -> list[str]:
    rows = []
    for variant in variants:
        for entry in variant["decoding"]:
            roof = entry["roofline"]
            rows.append(
                [variant["name"] + ("" if variant["trusted"] else " (untrusted)"), str(entry["context"]),
                 f"{entry['ttft_ms']:.2f} ms", f"{entry['prefill_tokens_per_s']:,.0f}",
                 f"{entry['decode_tokens_per_s']:,.0f}", f"{entry['speedup']:.2f}",
                 f"{roof['share']:.2f}" if roof else "–"]
            )  # fmt: skip
    return _table(["", "context", "first token", "prefill tokens/s", "decode tokens/s", "times the teacher's",
                   "share of the roofline"], rows)  # fmt: skip


def _distilled(rows: Tree) -> list[str]:
    found = rows["summary"]
    rates = sorted({row["learning_rate"] for row in rows["rows"]})
    cells = [
        [kind, *(_values(rows["rows"], kind, rate) for rate in rates),
         f"{found[kind]['mean']:.2f} ± {found[kind]['sd']:.2f}"]
        for kind in ("distilled", "alone")
    ]  # fmt: skip
    ratios = ", ".join(f"{ratio:.3f}" for ratio in found["ratios"])
    return [
        *_table(["", *(f"test perplexity by seed at {rate:g}" for rate in rates), "mean ± sd at the best"], cells),
        "",
        f"The teacher has {_value(rows['teacher'], 2)}. Distilled over alone at equal seeds: {ratios}.",
    ]


def _values(rows: list[Tree], kind: str, rate: float) -> str:
    found = [row["perplexity"] for row in rows if (row["kind"], row["learning_rate"]) == (kind, rate)]
    return ", ".join(f"{each['value']:.2f}" for each in found)


def _genai(rows: Tree) -> list[str]:
    return _table(
        ["", "prompts", "greedy tokens, 64 or up to the end of text", "prompts with all tokens as edgetf's own"],
        [[name, str(row["prompts"]), f"{row['tokens']:,}", str(row["equal"])] for name, row in rows.items()],
    )


def _streaming(rows: Tree) -> list[str]:
    cells = [
        [name, f"{row['perplexity_at_start']:.2f}", f"{row['perplexity_at_end']:.2f}", f"{row['ratio']:.3f}",
         f"{row['rss_start_bytes'] / MIB:.1f}", f"{row['rss_end_bytes'] / MIB:.1f}", f"{row['tokens_per_s']:,.0f}"]
        for name, row in rows.items()
    ]  # fmt: skip
    return [
        *_table(["", "perplexity of a passage at the start", "of the same behind all else", "ratio",
                 "RSS when the window is full, MiB", "at the end, MiB", "tokens/s"], cells),
        "",
        "4 sink tokens and a sliding window, 512 tokens in all.",
    ]  # fmt: skip


def _speed(rows: Tree) -> list[str]:
    cells = []
    for model, contexts in rows.items():
        for context, variants in contexts.items():
            for name, row in variants.items():
                cells.append(
                    [model, context, name, f"{row['decode_p50_ms']:.3f} ms", f"{row['decode_tokens_per_s']:,.0f}",
                     f"{row['over_fp32']:.2f} ({_ends(row['over_fp32_ci95'])})",
                     f"{row['over_transformers']:.2f} ({_ends(row['over_transformers_ci95'])})"]
                )  # fmt: skip
    return _table(["", "context", "", "p50 of a token", "tokens/s", "times fp32 ONNX (95 %)",
                   "times transformers (95 %)"], cells)  # fmt: skip


def _ends(ends: list[float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"
