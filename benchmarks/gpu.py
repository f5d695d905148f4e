"""A checkpoint on an NVIDIA GPU: torch in three types through edgetf's runner, and torchao's float8.

    python benchmarks/gpu.py                    everything that is not in the results yet
    python benchmarks/gpu.py latency float8     some sections, measured anew

Sections: latency, float8, accuracy. The checkpoint is the teacher of the short texts, as benchmarks/compression.py made
it; $EDGETF_GPU_CHECKPOINT and $EDGETF_GPU_DATA name others (a folder with `test.csv`: text, label). Each section is
written to benchmarks/results/gpu.json when it is done, the tables to gpu.md; without a GPU nothing is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parts.float8_gpu import float8_gpu
from parts.sections import run_sections

from edgetf.core.metrics import percentile, wilson
from edgetf.core.places import cache_folder
from edgetf.data.tables import read_table
from edgetf.models.torch_cuda import PROVIDERS
from edgetf.runtime.model import Model
from edgetf.targets.local import ask_runner

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "gpu.json"
LENGTHS = (32, 128)
SAMPLES, SECONDS = 200, 5.0
Tree = dict[str, Any]


def models(checkpoint: Path) -> dict[str, Model]:
    """The checkpoint in each type."""
    return {
        kind: Model(kind, checkpoint, "model.safetensors", "torch_cuda", max(LENGTHS), provider=provider)
        for provider, kind in PROVIDERS.items()
    }


def latencies(checkpoint: Path) -> Tree:
    """Medians of batch 1 in turns in one process, by number of tokens and type."""
    named = models(checkpoint)
    request = {"do": "bench", "models": [model.to_json() for model in named.values()], "threads": 1, "text": "",
               "samples": SAMPLES, "seconds": SECONDS}  # fmt: skip
    found: Tree = {}
    for length in LENGTHS:
        answer = ask_runner({**request, "seq_len": length})
        found[str(length)] = {
            kind: {"p50_ms": percentile(taken, 50), "p90_ms": percentile(taken, 90), "n": len(taken), "doubts": doubts}
            for kind, taken, doubts in zip(named, answer["samples_ms"], answer["doubts"], strict=True)
        }
    return found


def accuracies(checkpoint: Path, data: Path) -> Tree:
    """Accuracy on the test rows in each type, and how often its answer is that of float32."""
    rows = read_table(data / "test.csv", "utf-8")
    names = sorted({row["label"] for row in rows})
    labels = np.array([names.index(row["label"]) for row in rows])
    texts, found, first = [row["text"] for row in rows], {}, None
    for kind, model in models(checkpoint).items():
        answer = ask_runner({"do": "classify", "model": model.to_json(), "texts": texts, "threads": 1})
        predicted = np.asarray(answer["logits"]).argmax(axis=1)
        first = predicted if first is None else first
        right = int((predicted == labels).sum())
        found[kind] = {
            "accuracy": right / len(labels),
            "ci95": list(wilson(right, len(labels))),
            "agreement": float((predicted == first).mean()),
            "n": len(labels),
            "load_ms": answer["load_ms"],
            "first_ms": answer["first_ms"],
        }
    return found


def markdown(results: Tree) -> str:
    """The tables with their command, GPU and commit."""
    lines: list[str] = []
    if "latency" in results:
        rows = results["latency"]["rows"]
        kinds = rows[next(iter(rows))]
        lines += _table(["type", *(f"p50, {length} tokens" for length in rows)],
                        [[kind, *(_cell(rows[length][kind]) for length in rows)] for kind in kinds])  # fmt: skip
        lines += [f"Batch 1, in turns in one process, one thread of the host. {_made(results, 'latency')}", ""]
    if "accuracy" in results:
        rows = results["accuracy"]["rows"]
        lines += _table(["type", "accuracy (n)", "same answer as float32"],
                        [[kind, f"{row['accuracy']:.4f} ({row['n']})", f"{row['agreement']:.4f}"]
                         for kind, row in rows.items()])  # fmt: skip
        lines += [_made(results, "accuracy"), ""]
    if "float8" in results:
        rows = results["float8"]["rows"]
        cells = [[kind, f"{row['accuracy']:.4f} ({row['n']})", f"{row['agreement']:.4f}", f"{row['p50_ms']:.2f} ms"]
                 for kind, row in rows.items()]  # fmt: skip
        lines += _table(["type", "accuracy (n)", "same answer as bfloat16", "p50 of a batch"], cells)
        lines += [f"Batches of 64 texts with 128 tokens, compiled. {_made(results, 'float8')}", ""]
    return "\n".join(lines)


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [columns, ["--"] * len(columns), *rows]] + [""]


def _cell(row: Tree) -> str:
    return f"{row['p50_ms']:.2f} ms" + (" (untrusted)" if row["doubts"] else "")


def _made(results: Tree, name: str) -> str:
    made = results[name]["made"]
    where = f"{results[name]['gpu']}, torch {made['versions']['torch']}, commit {made['commit'] or 'not known'}"
    return f"`python benchmarks/gpu.py {name}`; {where}."


def main(names: list[str]) -> None:
    """Measure sections and write the results after each."""
    cache = cache_folder()
    checkpoint = Path(
        os.environ.get("EDGETF_GPU_CHECKPOINT", cache / "benchmark-runs/short_texts-teacher/run/1-finetune")
    )
    data = Path(os.environ.get("EDGETF_GPU_DATA", cache / "benchmark-data/short_texts"))
    sections = {
        "latency": lambda: latencies(checkpoint),
        "float8": lambda: float8_gpu(checkpoint, data),
        "accuracy": lambda: accuracies(checkpoint, data),
    }
    if not torch.cuda.is_available():
        print("not measured: there is no GPU here")
        return
    about = {"gpu": torch.cuda.get_device_name()}
    run_sections(names, sections, ("torch", "torchao", "transformers"), RESULT, markdown, about)


if __name__ == "__main__":
    main(sys.argv[1:])
