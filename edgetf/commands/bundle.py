"""``edgetf bundle``."""

from __future__ import annotations

from pathlib import Path

from edgetf.bundle import jetson
from edgetf.commands.output import print_json
from edgetf.core.artifact import open_verified
from edgetf.core.device import load_device
from edgetf.core.errors import EXIT_FINE, ConfigError


def bundle_command(folder: Path, device_name: str, out: Path | None, seq_len: int | None, as_json: bool) -> int:
    """Make the folder that goes to a device.

    Raises:
        ConfigError: there is nothing to bundle for such a device.
    """
    artifact, device = open_verified(folder), load_device(device_name)
    if not device.has_tensorrt:
        raise ConfigError(f"{device_name}: nothing to bundle; allowed: one with TensorRT, such as jetson_orin_nano")
    made = jetson.make(artifact, device, out or Path(f"{artifact.manifest.name}-{device_name}"), seq_len)
    if as_json:
        print_json({"schema": 1, "device": device_name, "path": str(made), "run": str(made / jetson.SCRIPT)})
    else:
        print(f"{made}: copy it to the device and run {jetson.SCRIPT} there")
    return EXIT_FINE
