"""Medians of random encoders on this machine for benchmarks/prediction.py, beside one model that is always the same.

A machine's clock drifts with its temperature and its neighbors. The anchor is timed in turns with every architecture;
what it takes over its median of all is divided out of theirs. Each answer is kept in the cache, so that a measurement
which was cut goes on where it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
from edgetf.runtime.model import Model
from edgetf.stages.probe_shapes import PROBE_SCHEMES, Architecture

ANCHOR = Architecture(4, 256, 4, 1024, (64,))
SECONDS = 2.0  # of turns for an architecture
FLOPS = 60e9  # a second, to guess how many turns those are
FEWEST, MOST = 15, 60
QUIET = 1.02  # wall over thread time up to which nothing else had the processor
CLOCKS = {"wall": "wall clock", "thread": "processor time of the thread, as other work ran beside it"}
Tree = dict[str, Any]


def timings(name: str, model_format: Format) -> list[Tree]:
    """A row for every architecture, length and scheme of a set: medians by both clocks, with the anchor's."""
    every = [(each, length) for each in architectures(name) for length in each.lengths]
    return [row for each, length in every for row in _timed(each, length, model_format)]


def clock_of(rows: list[Tree]) -> str:
    """The clock to go by: the wall's, if nine in ten medians by it agree with the thread's."""
    quiet = [row["wall_ms"] <= QUIET * row["thread_ms"] for row in rows]
    return "wall" if np.mean(quiet) >= 0.9 else "thread"


def anchor_ms(rows: list[Tree], clock: str) -> float:
    """What the anchor usually takes."""
    return float(np.median([row[f"anchor_{clock}_ms"] for row in rows]))


def steadied(rows: list[Tree], clock: str, usual: float) -> list[float]:
    """Milliseconds of rows as they were if the anchor had taken its usual time beside each."""
    return [row[f"{clock}_ms"] * usual / row[f"anchor_{clock}_ms"] for row in rows]


def _timed(each: Architecture, length: int, model_format: Format) -> list[Tree]:
    """Both files of an architecture and the anchor in turns, or what was measured before."""
    packages = versions("onnxruntime", "ai-edge-litert")
    key = key_of(["prediction 2", each.name, length, model_format, machine(), packages, SECONDS])
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
    anchor, *taken = _ask({"models": models, "seq_len": length, "turns": turns})
    return [
        {"architecture": each.name, "seq_len": length, "scheme": scheme, "file": str(files[scheme]), "n": turns,
         **{clock: float(np.median(samples)) for clock, samples in own.items()},
         **{f"anchor_{clock}": float(np.median(samples)) for clock, samples in anchor.items()}}
        for scheme, own in zip(PROBE_SCHEMES, taken, strict=True)
    ]  # fmt: skip


def _ask(request: Tree) -> list[dict[str, list[float]]]:
    script = Path(__file__).with_name("clocks.py")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(request) + "\n", stdout=subprocess.PIPE, text=True, env=env
    )
    done.check_returncode()
    return list(json.loads(done.stdout))


def _record(path: Path, backend: str, length: int) -> Tree:
    return Model(path.stem, path.parent, path.name, backend, length).to_json()
