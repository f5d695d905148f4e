"""``edgetf bench``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from edgetf.commands.asked import Asked
from edgetf.commands.bench_language import bench_decoders, decoder_at
from edgetf.commands.output import print_json
from edgetf.core.artifact import MANIFEST, open_verified
from edgetf.core.device import DeviceProfile, load_device
from edgetf.core.errors import EXIT_FINE, ArtifactError, ConfigError
from edgetf.core.made import made_with
from edgetf.core.metrics import percentile
from edgetf.core.support import HERE
from edgetf.report.language_timings import decoding_lines
from edgetf.report.progress import Reporter
from edgetf.report.timings import bench_lines
from edgetf.runtime.model import Model
from edgetf.targets.target import Answer, Request, Target, open_target
from edgetf.validation.golden import deployable_model
from edgetf.validation.row import Settings
from edgetf.validation.timings import timing_of

BACKENDS = {".onnx": "ort", ".tflite": "litert"}
DEFAULT_LENGTH = 128


def model_at(path: Path, device: DeviceProfile) -> Model:
    """A variant's folder, or a bare model file.

    Raises:
        ArtifactError: neither.
    """
    if not path.exists():
        raise ArtifactError(f"{path}: not found")
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or (folder / MANIFEST).is_file():
        artifact = open_verified(folder)
        return deployable_model(artifact, device.runtime_of(artifact.spec.kind))  # type: ignore[arg-type]
    if path.suffix not in BACKENDS:
        raise ArtifactError(f"{path}: got {path.suffix or 'no suffix'}, allowed: {', '.join(BACKENDS)} or a folder")
    return Model(path.name, path.parent, path.name, BACKENDS[path.suffix], DEFAULT_LENGTH)


def bench_command(asked: Asked, as_json: bool) -> int:
    """Time one file, or two in turns, at one length or several; or one for minutes.

    Raises:
        ConfigError: minutes of two models, or at several lengths, or of a decoder.
    """
    device = load_device(asked.device)
    target = open_target(device)
    paths = [each for each in (asked.model, asked.against) if each is not None]
    decoders = [decoder_at(each) for each in paths]
    if decoders[0] is not None:
        if asked.sustained is not None:
            raise ConfigError("--sustained: a decoder is timed a token at a time; leave it out")
        found = bench_decoders(decoders, device, target, asked)
        print_json(found) if as_json else print("\n".join(decoding_lines(found)))
        return EXIT_FINE
    models = [on_device(device, model_at(each, device), asked.provider) for each in paths]
    lengths = asked.seq_lens or (models[0].max_length,)
    request = {"threads": asked.threads, "text": "", "cpus": list(asked.cpus)}
    document: dict[str, Any] = {
        "schema": 1,
        "device": asked.device,
        "how": target.how,
        "made": made_with("onnxruntime", "ai-edge-litert"),
    }
    if asked.sustained is not None:
        if len(models) > 1 or len(lengths) > 1:
            raise ConfigError(
                "--sustained: got several models or lengths, allowed: one; leave out --against or a --seq-len"
            )
        document |= _sustained(target, models[0], {**request, "seq_len": lengths[0], "seconds": asked.sustained})
    else:
        document |= _timed(target, models, {**request, "samples": asked.samples, "seconds": Settings.seconds}, lengths)
    print_json(document) if as_json else print("\n".join(bench_lines(document)))
    return EXIT_FINE


def _timed(target: Target, models: list[Model], request: Request, lengths: Sequence[int]) -> dict[str, Any]:
    """The part of the document on short runs: a row a model and length."""
    rows: list[dict[str, Any]] = []
    named = [model.to_json() for model in models]
    for length in lengths:
        answer = target.ask({**request, "do": "bench", "models": named, "seq_len": length})
        rows += [_row(model, answer, k, request["threads"]) for k, model in enumerate(models)]
    found: dict[str, Any] = {
        "machine": {**answer["machine"], "load_average": answer["load_average"]},
        "conditions": answer["conditions"],
        "models": rows,
    }
    if len(models) == 2:  # at the last length; each row of the first model holds its own
        found |= {name: rows[-2][name] for name in ("speedup", "speedup_ci95")}
    return found


def _sustained(target: Target, model: Model, request: Request) -> dict[str, Any]:
    """The part of the document on minutes without a pause."""
    reporter = Reporter()
    with reporter.step(model.name):
        answer = target.ask(
            {**request, "do": "sustain", "model": model.to_json()},
            lambda done, total: reporter.update(done, total, "running without a pause"),
        )
    windows = answer.pop("windows")
    first, last = windows[0]["latency_p50_ms"], median(window["latency_p50_ms"] for window in windows[-3:])
    return {
        **{name: answer[name] for name in ("machine", "conditions", "backend", "seq_len")},
        "name": model.name,
        "threads": request["threads"],
        "sustained": {"seconds": request["seconds"], "drift": round(last / first - 1, 4), "windows": windows},
    }


def on_device(device: DeviceProfile, model: Model, provider: str | None = None) -> Model:
    """The model in the runtime that the device has for its format, with the provider that it should run on."""
    model_format = next((known for known, runtime in HERE.items() if runtime == model.backend), None)
    runtime = device.runtime_of(model_format) if model_format is not None else None
    return replace(model, backend=runtime or model.backend, provider=provider or device.provider)


def _row(model: Model, answer: Answer, k: int, threads: int) -> dict[str, Any]:
    timing = timing_of(answer, k, 1 if k == 0 else None)
    after_another = answer["after_another_ms"][k]
    return {
        "name": model.name,
        "path": str(model.path),
        "backend": answer["backends"][k],
        "threads": threads,
        **asdict(timing),
        "after_another_p50_ms": round(percentile(after_another, 50), 4) if after_another else None,
        "trusted": not timing.doubts,
        "samples_ms": [round(value, 4) for value in answer["samples_ms"][k]],
    }
