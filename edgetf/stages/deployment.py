"""What a search for speed goes by: the file that will ship, on the device and input that it will be judged by.

On this machine it is timed. A device that is away is predicted by its fit, where it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgetf.core.device import DeviceProfile
from edgetf.core.errors import DeviceError
from edgetf.core.schemes import Format, Scheme
from edgetf.models.heads import CLASSIFIER, Head
from edgetf.predict.store import find_fit


@dataclass(frozen=True)
class Deployment:
    """What will run: how the file is written, on how many threads and tokens it is timed."""

    model_format: Format
    scheme: Scheme
    threads: int
    seq_len: int
    rewrite: bool = True
    head: Head = CLASSIFIER
    away: str | None = None  # the device whose fit is asked in place of this machine
    fit: str | None = None  # the digest of that fit: another calibration is another measurement

    def record(self) -> dict[str, Any]:
        """What a measurement depends on, as JSON; a classifier's says nothing of its head, nor one here of a fit."""
        usual = {"head": asdict(CLASSIFIER), "away": None, "fit": None}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}

    @property
    def timed_scheme(self) -> Scheme:
        """The scheme of the models that are timed: where the real one is rounded, one that needs no calibration."""
        return "fp32" if self.scheme == "fp32" else "w8a8_dynamic"

    @property
    def how(self) -> str:
        """How its milliseconds come about."""
        return "predicted" if self.away else "measured"


def away_by_fit(deployment: Deployment, devices: Sequence[DeviceProfile]) -> Deployment:
    """The deployment on the first of the devices, where none of them is this machine and that one has a fit."""
    if not devices or any(device.here for device in devices):
        return deployment
    first = devices[0]
    scheme = deployment.timed_scheme
    runtime = first.runtime_of(deployment.model_format, scheme)
    with suppress(DeviceError):
        if runtime is not None:
            fit = find_fit(first, runtime, scheme, deployment.threads)
            return replace(deployment, away=first.name, fit=fit.digest)
    return deployment
