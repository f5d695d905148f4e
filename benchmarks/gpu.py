"""A checkpoint on an NVIDIA GPU: torch in three types through edgetf's runner, and torchao's float8.

    python benchmarks/gpu.py                   the short texts and their teacher, as benchmarks/compression.py made them
    python benchmarks/gpu.py CHECKPOINT DATA   another fine-tuned classifier, and a folder with `test.csv` (text, label)

Writes benchmarks/results/gpu.json and gpu.md; without a GPU it says so and writes nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parts.float8_gpu import float8_gpu

from edgetf.core.made import machine, made_with
from edgetf.core.metrics import percentile, wilson
from edgetf.core.places import cache_folder
from edgetf.data.tables import read_table
from edgetf.models.torch_cuda import PROVIDERS
from edgetf.runtime.model import Model
from edgetf.targets.local import ask_runner

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "gpu.json"
TABLE = HERE / "results" / "gpu.md"
LENGTHS = (32, 128, 512)
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
    columns = ["type", "accuracy (n)", "same answer as float32", *(f"p50, {length} tokens" for length in LENGTHS)]
    lines = [f"| {' | '.join(columns)} |", "|--" * len(columns) + "|"]
    for kind, row in results["accuracy"].items():
        times = " | ".join(f"{results['latency'][str(length)][kind]['p50_ms']:.2f} ms" for length in LENGTHS)
        lines.append(f"| {kind} | {row['accuracy']:.4f} ({row['n']}) | {row['agreement']:.4f} | {times} |")
    lines += ["", "Batch 1, in turns in one process, one thread of the host. Batches of 64 texts with 128 tokens:", "",
              "| type | accuracy (n) | same answer as bfloat16 | p50 of a batch |", "|--|--|--|--|"]  # fmt: skip
    for kind, row in results["float8"].items():
        cells = (kind, f"{row['accuracy']:.4f} ({row['n']})", f"{row['agreement']:.4f}", f"{row['p50_ms']:.2f} ms")
        lines.append(f"| {' | '.join(cells)} |")
    made = results["made"]
    lines += ["", f"`python benchmarks/gpu.py CHECKPOINT DATA`; {results['gpu']}, torch {made['versions']['torch']}, "
              f"commit {made['commit'] or 'not known'}.", ""]  # fmt: skip
    return "\n".join(lines)


def main(checkpoint: Path, data: Path) -> None:
    """Measure and write."""
    if not torch.cuda.is_available():
        print("not measured: there is no GPU here")
        return
    results: Tree = {
        "gpu": torch.cuda.get_device_name(),
        "made": made_with("torch", "torchao", "transformers"),
        "machine": machine(),
        "latency": latencies(checkpoint),
        "accuracy": accuracies(checkpoint, data),
        "float8": float8_gpu(checkpoint, data),
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(markdown(results), encoding="utf-8")
    print(markdown(results))


if __name__ == "__main__":
    if len(sys.argv) not in (1, 3):
        sys.exit(__doc__)
    cache = cache_folder()
    defaults = (cache / "benchmark-runs/short_texts-teacher/run/1-finetune", cache / "benchmark-data/short_texts")
    main(*(map(Path, sys.argv[1:]) if len(sys.argv) == 3 else defaults))
