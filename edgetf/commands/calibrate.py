"""``edgetf devices calibrate``."""

from __future__ import annotations

import numpy as np

from edgetf.commands.output import print_json
from edgetf.core.device import load_device
from edgetf.core.errors import EXIT_FINE
from edgetf.core.made import made_with
from edgetf.pipeline.calibrate_device import calibrate
from edgetf.predict.interval import factor
from edgetf.predict.roofline import REPEATS
from edgetf.predict.store import Fit, write_fits
from edgetf.report.progress import Reporter


def calibrate_command(name: str, threads: int | None, as_json: bool) -> int:
    """Fit a device's latency, and keep the fit beside the user's own device profiles."""
    device, reporter = load_device(name), Reporter()
    with reporter.step(f"calibrate {device.name}"):
        fits = calibrate(device, threads or device.threads, reporter.update, reporter.say)
    path = write_fits(device, fits)
    if as_json:
        document = {"schema": 1, "device": device.name, "path": str(path), "made": made_with("onnxruntime"),
                    "fits": [{**fit.about(), "interval_factor": _width(fit)} for fit in fits]}  # fmt: skip
        print_json(document)
        return EXIT_FINE
    for fit in fits:
        about = fit.about()
        print(
            f"{about['runtime']} {about['scheme']}: {about['n']} measurements of {about['models']} models on "
            f"{about['threads']} thread(s); a prediction amid them is right within a factor of {_width(fit):.2f} (95 %)"
        )
    print(f"written to {path}")
    return EXIT_FINE


def _width(fit: Fit) -> float:
    """What the ends of an interval are away by, amid what was measured."""
    return round(factor(np.asarray(fit.roofline.errors), fit.roofline.models, 0.0, REPEATS), 4)
