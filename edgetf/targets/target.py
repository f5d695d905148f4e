"""What a target is: a place where the runner answers requests. `open_target` finds the one of a device profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from typing_extensions import assert_never

from edgetf.core.device import DeviceProfile
from edgetf.core.errors import DeviceError

Request = dict[str, Any]
Answer = dict[str, Any]
Tick = Callable[[int, int], None]
NO_MILLISECONDS = "an emulated processor gives no milliseconds; ask for its instructions: edgetf validate ARTIFACT"
TIMED = ("bench", "sustain", "decode_bench", "bandwidth")  # requests whose answers are milliseconds
Ask = Callable[[Request], Answer]
How = Literal["measured", "emulated"]


class Target(Protocol):
    """A reachable device.

    A request names models by folders of this machine; the target brings there what is missing.
    """

    how: How
    counts: bool  # instructions of an inference, where it emulates

    def ask(self, request: Request, tick: Tick | None = None) -> Answer:
        """The runner's result.

        Raises:
            EdgetfError: what the runner reported, under the same exit code.
            DeviceError: the device is not available, went away, or its runner died.
        """
        ...


def open_target(device: DeviceProfile) -> Target:
    """The way to a device.

    Raises:
        DeviceError: it cannot be reached from here.
    """
    match device.target:
        case "local":
            from edgetf.targets.local import Local

            return Local()
        case "ssh" if device.ssh is not None:
            from edgetf.targets.ssh import SshTarget

            return SshTarget(device, device.ssh)
        case "adb" if device.adb is not None:
            from edgetf.targets.adb import AdbTarget

            return AdbTarget(device, device.adb)
        case "emulated":
            from edgetf.targets.emulated import EmulatedArm64

            return EmulatedArm64(device)
        case "ssh" | "adb":
            raise DeviceError(f"{device.name}: target {device.target} is not available")
        case "none":
            raise DeviceError(f"{device.name}: cannot be reached from here; use --device host on the device itself")
        case other:
            assert_never(other)
