"""Calibrate a device: write the probe models, time them there through its target, and fit its constants.

Each probe is written, timed at each of its lengths with all its schemes in turns in one process, and deleted, so that
neither this disk nor a board's has to hold all of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edgetf.core.device import DeviceProfile
from edgetf.core.errors import DeviceError, needs
from edgetf.core.extras import is_there, require
from edgetf.core.made import made_with
from edgetf.core.progress import Report
from edgetf.core.quiet import quiet
from edgetf.core.schemes import FORMATS, Format, Runtime, Scheme
from edgetf.predict.read import read_graph
from edgetf.predict.roofline import Timed, counts_of, fit_roofline
from edgetf.predict.store import Fit
from edgetf.runtime.model import Model
from edgetf.stages.probe_shapes import PROBE_SCHEMES, PROBES, Architecture
from edgetf.targets.target import Target, open_target

SAMPLES, SECONDS = 30, 1.0  # turns, and what a model may take for more of them until its median is settled
Key = tuple[Runtime, Scheme]
Say = Callable[[str], None]


def calibrate(
    device: DeviceProfile, threads: int, report: Report, say: Say, probes: Sequence[Architecture] = PROBES
) -> list[Fit]:
    """A fit for every runtime and scheme of a device that can be predicted.

    Raises:
        DeviceError: it cannot be reached, gives no milliseconds, or a package to write the probes is missing.
        ParityError: a probe cannot be written.
    """
    target = open_target(device)
    if target.how != "measured":
        raise DeviceError(f"{device.name}: is {target.how}, which gives no milliseconds; calibrate the device itself")
    require(["compress"])
    formats = [each for each in FORMATS if _kept_schemes(device, each)]
    if "tflite" in formats and not is_there("tflite"):
        formats.remove("tflite")
        say("tflite: no probes, because the packages that write them are missing: pip install 'edgetf[tflite]'")
    if not formats:
        raise DeviceError(f"{device.name}: no runtime of it can be calibrated; allowed: ort, litert, tflite_runtime")
    timed: dict[Key, list[Timed]] = {}
    machine: dict[str, object] = {}
    works = [(model_format, probe) for model_format in formats for probe in probes]
    for done, (model_format, probe) in enumerate(works):
        report(done, len(works), f"{model_format} {probe.name}")
        with tempfile.TemporaryDirectory(prefix="edgetf-probe-") as folder:
            schemes = _kept_schemes(device, model_format)
            machine = _time(target, device, probe, model_format, schemes, threads, Path(folder), timed, say)
    made = {"date": datetime.now(timezone.utc).date().isoformat(), **made_with("onnxruntime", "ai-edge-litert")}
    return [
        Fit(runtime, scheme, threads, made, machine, fit_roofline(rows)) for (runtime, scheme), rows in timed.items()
    ]


def _kept_schemes(device: DeviceProfile, model_format: Format) -> list[Scheme]:
    """Those of the probes that kernels of the device compute in."""
    supports = {scheme: device.support(model_format, scheme) for scheme in PROBE_SCHEMES}
    return [scheme for scheme, support in supports.items() if support is not None and support.how == "runs"]


def _time(
    target: Target, device: DeviceProfile, probe: Architecture, model_format: Format, schemes: Sequence[Scheme],
    threads: int, folder: Path, timed: dict[Key, list[Timed]], say: Say,
) -> dict[str, object]:  # fmt: skip
    """Add the times of one probe at its lengths; gives what the device's runner says of its machine."""
    with needs("compress"), quiet():
        from edgetf.stages.probe_set import write_probe
    written = write_probe(probe, model_format, folder)
    runtimes = {scheme: device.runtime_of(model_format, scheme) for scheme in schemes}
    machine: dict[str, object] = {}
    for length in probe.lengths:
        models = [
            Model(path.stem, folder, path.name, str(runtimes[scheme]), length, provider=device.provider)
            for scheme, path in written.items()
            if scheme in runtimes
        ]
        request = {"do": "bench", "models": [model.to_json() for model in models], "text": "", "threads": threads,
                   "samples": SAMPLES, "seconds": SECONDS, "seq_len": length}  # fmt: skip
        answer = target.ask(request)
        machine = answer["machine"]
        for doubt in dict.fromkeys(doubt for doubts in answer["doubts"] for doubt in doubts):
            say(f"{probe.name} at {length} tokens: {doubt}")
        for scheme, model, samples in zip(schemes, models, answer["samples_ms"], strict=True):
            runtime = runtimes[scheme]
            if runtime is not None:
                counts = counts_of(read_graph(model.path, length).ops)
                rows = timed.setdefault((runtime, scheme), [])
                rows.append(Timed(probe.name, length, counts, round(float(np.median(samples)), 5)))
    return machine
