"""How a device is reached: the sections of a profile that a target reads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgetf.core.strict import Strict

TargetKind = Literal["local", "none", "ssh", "adb", "emulated"]
RunnerKind = Annotated[
    Literal["installed", "zip"], Field(description="edgetf is installed there, or one zip application is sent")
]
Folder = Annotated[str, Field(pattern=r"^[^-~\s][^\n]*$", description="where files go on the board; from its home")]
REACHED: dict[TargetKind, str] = {
    "local": "here",
    "none": "not from here",
    "ssh": "by ssh",
    "adb": "by adb",
    "emulated": "emulated",
}


class Ssh(Strict):
    """A board with an SSH server; all else (keys, jumps, ports) may also stand in the user's own ssh configuration."""

    host: Annotated[str, Field(min_length=1, pattern=r"^[^-\s]\S*$", description="user@host, or a name that ssh knows")]
    port: Annotated[int | None, Field(ge=1, le=65535, description="null: as ssh is configured")] = None
    identity: Annotated[str | None, Field(description="path of a private key; null: as ssh is configured")] = None
    config: Annotated[str | None, Field(description="path of an ssh configuration file of its own")] = None
    folder: Folder = ".cache/edgetf"
    python: Annotated[str, Field(pattern=r"^[^-~\s]\S*$", description="the Python that runs the runner")] = "python3"
    runner: RunnerKind = "installed"
    emulated: Annotated[bool, Field(description="a processor that qemu plays: no milliseconds are reported")] = False


class Adb(Strict):
    """A phone or a board that `adb` reaches."""

    serial: Annotated[str | None, Field(pattern=r"^[^-\s]\S*$", description="null: the only one attached")] = None
    folder: Folder = "/data/local/tmp/edgetf"
    python: Annotated[str, Field(pattern=r"^[^-~\s]\S*$", description="the Python that runs the runner")] = "python3"
    runner: RunnerKind = "installed"


class Emulated(Strict):
    """A processor that qemu plays on this machine: right answers and instruction counts, no milliseconds."""

    cpu: Annotated[str, Field(min_length=1, description="as qemu-aarch64 -cpu calls it")]
    part: Annotated[str, Field(pattern=r"^0x[0-9a-f]{3}$", description="CPU part in /proc/cpuinfo, e.g. 0xd08")]
    features: Annotated[tuple[str, ...], Field(min_length=1, description="Features in /proc/cpuinfo")]
    cores: Annotated[int, Field(ge=1, le=64)] = 4
