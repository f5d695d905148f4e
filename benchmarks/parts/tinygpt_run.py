"""The run of recipe tinygpt that the sections of benchmarks/tinygpt.py stand on, and what its report says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgetf.core.artifact import open_verified
from edgetf.core.errors import ArtifactError
from edgetf.core.places import cache_folder
from edgetf.runtime.decode.model import DecoderModel, decoder_model

RUN = cache_folder() / "benchmark-runs" / "tinygpt"
GEMMA = RUN.with_name("tinygpt-gemma")
VARIANTS = ("onnx-fp32", "onnx-w8", "onnx-w4")
Tree = dict[str, Any]


def compress(out: Path, *words: str, recipe: str = "tinygpt") -> Tree:
    """One run through the CLI: its report."""
    command = [sys.executable, "-m", "edgetf", "compress", f"recipe={recipe}", "--out", str(out), "--json", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):  # 1: a budget is missed, which the tables show
        sys.exit(f"{' '.join(command[2:])}: exit code {done.returncode}")
    report: Tree = json.loads(done.stdout)
    return report


def metrics(record: Tree) -> Tree:
    """Of a stage, variant or teacher: value, n and interval by name."""
    return {metric["name"]: {key: metric[key] for key in ("value", "n", "ci95")} for metric in record["metrics"]}


def recipe() -> Tree:
    """The recipe from nothing: seconds of each stage, and all that was measured of each variant."""
    return summary(compress(RUN, "--fresh"))


def gemma() -> Tree:
    """Gemma 3 270M with 16,384 of its tokens, nothing trained: what quantization does to a real model."""
    return summary(compress(GEMMA, "prune=null", recipe="tinygpt_gemma"))


def recovered() -> Tree:
    """The whole recipe tinygpt_gemma: pruned, and recovered in one thread."""
    return summary(compress(GEMMA.with_name("tinygpt-gemma-recovered"), "prune.threads=1", recipe="tinygpt_gemma"))


def summary(report: Tree) -> Tree:
    """What the tables need of a report."""
    teacher = report["teacher"]
    stages = [{key: stage[key] for key in ("name", "seconds", "params")} for stage in report["stages"]]
    return {
        "seconds": report["seconds"],
        "verdict": report["verdict"],
        "teacher": {"params": teacher["params"], "size_bytes": teacher["size_bytes"], "metrics": metrics(teacher)},
        "stages": stages,
        "variants": [_variant(variant) for variant in report["variants"]],
    }


def _variant(variant: Tree) -> Tree:
    row = variant["devices"][0]
    kept = ("context", "ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "speedup", "speedup_ci95", "roofline")
    return {
        "name": variant["name"],
        "params": variant["params"],
        "size_bytes": variant["size_bytes"],
        "metrics": metrics(variant),
        "peak_rss_bytes": row["peak_rss_bytes"],
        "trusted": row["trusted"],
        "decoding": [{key: entry[key] for key in kept} for entry in row["decoding"]],
    }


def model_of(variant: str, run: Path = RUN) -> DecoderModel:
    """A variant of a run."""
    try:
        return decoder_model(open_verified(run / variant))
    except ArtifactError as error:
        sys.exit(f"{error}; python benchmarks/tinygpt.py recipe gemma makes it")
