"""What every validation of a variant on a device goes through, whatever the variant's task is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone

from edgetf.core.artifact import Artifact
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.targets.target import Target, Tick, open_target
from edgetf.validation.judge import judged
from edgetf.validation.row import DeviceRow

Measure = Callable[[DeviceRow, Target], None]
Predict = Callable[[DeviceRow], None]
OnDevice = Callable[[DeviceProfile, Tick], DeviceRow]  # a variant measured there


def attempt(
    artifact: Artifact,
    device: DeviceProfile,
    threads: int,
    budget: Mapping[str, float],
    measure: Measure,
    predict: Predict,
) -> DeviceRow:
    """The judged row that `measure` fills; where the device is not there, what `predict` knows of it, if anything.

    A variant that the device refuses is neither measured nor predicted.

    Raises:
        ArtifactError, ParityError: the file cannot be opened or run at all.
    """
    row = DeviceRow(device=device.name, threads=threads)
    unavailable = device.refuses(artifact.spec.kind, artifact.spec.scheme)  # type: ignore[arg-type]
    try:
        if unavailable is not None:
            raise DeviceError(unavailable)
        target = open_target(device)
        row.how = target.how
        row.measured_at, started = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
        measure(row, target)
        row.seconds = round(time.monotonic() - started, 2)
    except DeviceError as error:
        row = DeviceRow(device=device.name, threads=threads, how="not_measured")
        row.why = [f"not measured: {error}"]
        if unavailable is None:
            with suppress(ArtifactError, DeviceError):  # nothing known, or no package to read the file with
                predict(row)
    return judged(row, budget)
