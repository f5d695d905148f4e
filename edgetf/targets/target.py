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
Ask = Callable[[Request], Answer]
How = Literal["measured", "emulated"]


class Target(Protocol):
    """A reachable device.

    A request names models by folders of this machine; the target brings there what is missing.
    """

    how: How

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
        case "ssh" | "adb" | "emulated":
            raise DeviceError(f"{device.name}: target {device.target} is not available")
        case "none":
            raise DeviceError(f"{device.name}: cannot be reached from here; use --device host on the device itself")
        case other:
            assert_never(other)
