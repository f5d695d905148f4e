"""Medians of random encoders on this machine for benchmarks/prediction.py, beside one model that is always the same.

A machine's clock drifts with its temperature and its neighbors. The anchor is timed in turns with every architecture;
what it takes over its median of all is divided out of theirs. Each answer is kept in the cache, so that a measurement
which was cut goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from parts.architectures import architectures, files_of

from edgetf.core.artifact import key_of
from edgetf.core.files import read_json, write_json
from edgetf.core.made import machine, versions
from edgetf.core.places import cache_folder
from edgetf.core.schemes import Format
from edgetf.core.support import HERE
from edgetf.stages.probe_shapes import PROBE_SCHEMES, Architecture
from edgetf.targets.local import ask_runner

ANCHOR = Architecture(4, 256, 4, 1024, (64,))
SECONDS = 2.5  # of turns for an architecture
FLOPS = 60e9  # a second, to guess how many turns those are
FEWEST, MOST = 15, 40
Tree = dict[str, Any]


def timings(name: str, model_format: Format) -> list[Tree]:
    """A row for every architecture, length and scheme of a set, with milliseconds at the anchor's usual speed."""
    rows = [
        row for each in architectures(name) for length in each.lengths for row in _timed(each, length, model_format)
    ]
    usual = float(np.median([row["anchor_ms"] for row in rows]))
    return [{**row, "ms": row["p50_ms"] * usual / row["anchor_ms"]} for row in rows]


def _timed(each: Architecture, length: int, model_format: Format) -> list[Tree]:
    """Both files of an architecture and the anchor in turns, or what was measured before."""
    packages = versions("onnxruntime", "ai-edge-litert")
    key = key_of(["prediction 1", each.name, length, model_format, machine(), packages, SECONDS])
    path = cache_folder() / "benchmark-prediction" / "timings" / f"{key[:24]}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _measure(each, length, model_format))
    return list(read_json(path))


def _measure(each: Architecture, length: int, model_format: Format) -> list[Tree]:
    files = files_of(each, model_format)
    models = [_record(files_of(ANCHOR, "tflite")["fp32"], "litert", ANCHOR.lengths[0])]
    models += [_record(files[scheme], HERE[model_format], length) for scheme in PROBE_SCHEMES]
    flops = each.layers * length * (8 * each.width**2 + 4 * each.width * each.ffn + 4 * each.width * length)
    turns = int(np.clip(SECONDS / (4 * flops / FLOPS + 0.004), FEWEST, MOST))
    request = {"do": "bench", "models": models, "text": "", "samples": turns, "threads": 1, "seq_len": length}
    anchor, *samples = (np.asarray(taken) for taken in ask_runner(request)["samples_ms"])
    return [
        {"architecture": each.name, "seq_len": length, "scheme": scheme, "file": str(files[scheme]), "n": len(own),
         "p50_ms": float(np.median(own)), "p90_ms": float(np.percentile(own, 90)),
         "anchor_ms": float(np.median(anchor))}
        for scheme, own in zip(PROBE_SCHEMES, samples, strict=True)
    ]  # fmt: skip


def _record(path: Path, backend: str, length: int) -> Tree:
    return {"name": path.stem, "folder": str(path.parent), "model_file": path.name, "backend": backend,
            "max_length": length}  # fmt: skip
