"""Fits on disk, one file a device, beside the user's own device profiles: `latency/NAME.json`.

The profile `host` is whatever machine edgetf runs on, so its file is also named after that machine: a fit of another
one, in a home folder that several share, is never taken for it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgetf.core.artifact import key_of
from edgetf.core.device import DeviceProfile
from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.core.files import guard_disk, read_json, write_json
from edgetf.core.made import machine
from edgetf.core.places import own_devices
from edgetf.predict.roofline import TERMS, Roofline, Timed, counts_from_json

SCHEMA = 1


@dataclass(frozen=True)
class Fit:
    """A roofline with what it is of."""

    runtime: str
    scheme: str
    threads: int
    made: dict[str, Any]  # date, versions and commit
    machine: dict[str, Any]  # as the device's runner said it
    roofline: Roofline

    @property
    def digest(self) -> str:
        """Of its constants."""
        return key_of([self.roofline.cache_mb, self.roofline.constants])[:12]

    def about(self) -> dict[str, Any]:
        """Where a prediction comes from, for a report."""
        found = self.roofline
        return {
            "runtime": self.runtime,
            "scheme": self.scheme,
            "threads": self.threads,
            "models": found.models,
            "n": len(found.timed),
            "date": self.made["date"],
            "machine": self.machine,
        }


def fit_path(device: DeviceProfile) -> Path:
    """Where the fits of a device are kept."""
    name = f"{device.name}-{key_of(machine())[:12]}" if device.here else device.name
    return own_devices() / "latency" / f"{name}.json"


def write_fits(device: DeviceProfile, fits: list[Fit]) -> Path:
    """Keep fits, in place of those of the same runtime, scheme and threads."""
    path = fit_path(device)
    keys = {(fit.runtime, fit.scheme, fit.threads) for fit in fits}
    others = [fit for fit in read_fits(device) if (fit.runtime, fit.scheme, fit.threads) not in keys]
    with guard_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"schema": SCHEMA, "device": device.name, "fits": [_to_json(fit) for fit in (*others, *fits)]})
    return path


def read_fits(device: DeviceProfile) -> list[Fit]:
    """Every fit of a device; none where it was not calibrated.

    Raises:
        ArtifactError: the file is broken, or of another version.
    """
    path = fit_path(device)
    if not path.is_file():
        return []
    record = read_json(path)
    try:
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']}")
        return [_from_json(fit) for fit in record["fits"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path}: not a latency fit of this version ({error}); run: edgetf devices calibrate {device.name}"
        ) from None


def find_fit(device: DeviceProfile, runtime: str, scheme: str, threads: int) -> Fit:
    """The fit for a runtime, scheme and number of threads.

    Raises:
        DeviceError: there is none.
        ArtifactError: the file is broken.
    """
    fits = read_fits(device)
    for fit in fits:
        if (fit.runtime, fit.scheme, fit.threads) == (runtime, scheme, threads):
            return fit
    has = ", ".join(f"{fit.runtime} {fit.scheme} on {fit.threads} thread(s)" for fit in fits) or "none"
    more = f" --threads {threads}" if threads != 1 else ""
    raise DeviceError(
        f"{device.name}: no latency fit for {runtime} {scheme} on {threads} thread(s), there is: {has}; "
        f"run: edgetf devices calibrate {device.name}{more}"
    )


def _to_json(fit: Fit) -> dict[str, Any]:
    found = fit.roofline
    return {
        "runtime": fit.runtime,
        "scheme": fit.scheme,
        "threads": fit.threads,
        "made": fit.made,
        "machine": fit.machine,
        "cache": {"value": found.cache_mb, "unit": "10^6 bytes"},
        "constants": {
            name: {"value": value, "unit": term.unit}
            for (name, term), value in zip(TERMS.items(), found.constants, strict=True)
        },
        "n": len(found.timed),
        "left_out_errors": list(found.errors),
        "timed": [asdict(each) for each in found.timed],
    }


def _from_json(record: dict[str, Any]) -> Fit:
    timed = tuple(
        Timed(each["model"], each["seq_len"], counts_from_json(each["counts"]), each["ms"]) for each in record["timed"]
    )
    found = Roofline(
        timed,
        record["cache"]["value"],
        tuple(record["constants"][name]["value"] for name in TERMS),
        tuple(record["left_out_errors"]),
    )
    return Fit(record["runtime"], record["scheme"], record["threads"], record["made"], record["machine"], found)
