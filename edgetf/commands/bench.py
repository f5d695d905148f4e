"""``edgetf bench``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgetf.commands.output import print_json
from edgetf.core.artifact import MANIFEST, open_verified
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.errors import EXIT_FINE, ArtifactError
from edgetf.core.made import made_with
from edgetf.core.metrics import percentile, ratio_interval
from edgetf.core.support import HERE
from edgetf.report.words import milliseconds
from edgetf.runtime.model import Model
from edgetf.runtime.timing import is_noisy
from edgetf.targets.target import open_target
from edgetf.validation.golden import deployable_model

BACKENDS = {".onnx": "ort", ".tflite": "litert"}
DEFAULT_LENGTH = 128


def model_at(path: Path) -> Model:
    """A variant's folder, or a bare model file.

    Raises:
        ArtifactError: neither.
    """
    if path.is_dir():
        return deployable_model(open_verified(path))
    if not path.is_file():
        raise ArtifactError(f"{path}: not found")
    if (path.parent / MANIFEST).is_file():
        return deployable_model(open_verified(path.parent))
    if path.suffix not in BACKENDS:
        raise ArtifactError(f"{path}: got {path.suffix or 'no suffix'}, allowed: {', '.join(BACKENDS)} or a folder")
    return Model(path.name, path.parent, path.name, BACKENDS[path.suffix], DEFAULT_LENGTH)


def bench_command(
    path: Path, device_name: str, against: Path | None, threads: int, seq_len: int | None, samples: int, as_json: bool
) -> int:
    """Time one file, or two in turns."""
    device = load_device(device_name)
    target = open_target(device)
    models = [on_device(device, model_at(each)) for each in (path, against) if each is not None]
    answer = target.ask(
        {
            "do": "bench",
            "models": [model.to_json() for model in models],
            "threads": threads,
            "samples": samples,
            "seq_len": seq_len or models[0].max_length,
            "text": "",
        }
    )
    rows = [_row(model, answer, k, threads) for k, model in enumerate(models)]
    document: dict[str, Any] = {
        "schema": 1,
        "device": device_name,
        "how": target.how,
        "made": made_with("onnxruntime", "ai-edge-litert"),
        "machine": {**answer["machine"], "load_average": answer["load_average"]},
        "models": rows,
    }
    if len(rows) == 2:
        own, other = (row["samples_ms"] for row in rows)
        document["speedup"] = round(percentile(other, 50) / percentile(own, 50), 4)
        document["speedup_ci95"] = [round(value, 3) for value in ratio_interval(other, own)]
    if as_json:
        print_json(document)
    else:
        _print(document)
    return EXIT_FINE


def on_device(device: DeviceProfile, model: Model) -> Model:
    """The model in the runtime that the device has for its format, if it has another one."""
    model_format = next((known for known, runtime in HERE.items() if runtime == model.backend), None)
    runtime = device.runtime_of(model_format) if model_format is not None else None
    return replace(model, backend=runtime or model.backend)


def _row(model: Model, answer: dict[str, Any], k: int, threads: int) -> dict[str, Any]:
    taken, after_another = answer["samples_ms"][k], answer["after_another_ms"][k]
    return {
        "name": model.name,
        "path": str(model.path),
        "backend": answer["backends"][k],
        "threads": threads,
        "seq_len": answer["seq_lens"][k],
        "n": len(taken),
        "latency_p50_ms": round(percentile(taken, 50), 4),
        "latency_p90_ms": round(percentile(taken, 90), 4),
        "latency_p99_ms": round(percentile(taken, 99), 4),
        "after_another_p50_ms": round(percentile(after_another, 50), 4) if after_another else None,
        "trusted": not is_noisy(taken),
        "samples_ms": [round(value, 4) for value in taken],
    }


def _print(document: dict[str, Any]) -> None:
    for row in document["models"]:
        print(
            f"{row['name']}: p50 {milliseconds(row['latency_p50_ms'])}, p90 {milliseconds(row['latency_p90_ms'])}, "
            f"p99 {milliseconds(row['latency_p99_ms'])}, n {row['n']}, {row['seq_len']} tokens, "
            f"{row['threads']} thread(s), {row['backend']['ran']}"
            + ("" if row["trusted"] else "; untrusted: the timings scatter, end other work and measure again")
        )
    if "speedup" in document:
        low, high = document["speedup_ci95"]
        names = [row["name"] for row in document["models"]]
        print(f"{names[0]} is {document['speedup']:.2f} times as fast as {names[1]} (95 %: {low:.2f} to {high:.2f})")
