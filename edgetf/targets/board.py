"""What an emulated program sees of its board: one folder that stands in for /, given to qemu as -L.

ONNX Runtime and XNNPACK choose their kernels by /proc/cpuinfo and by files under /sys. Without a cpuinfo of the board
they read that of this machine, which is none they know, and ONNX Runtime crashes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgetf.core.reach import Emulated
from edgetf.targets.making import made_once

IMPLEMENTER = "0x41"  # Arm
_CPUINFO = "proc/cpuinfo"


def board_folder(boards: Path, system: Path, emulated: Emulated) -> Path:
    """The folder of a board among `boards`, with links to the unpacked `system`; made if it is not there."""
    digest = hashlib.sha256(emulated.model_dump_json().encode()).hexdigest()[:12]

    def write(part: Path) -> None:
        for name in ("bin", "etc", "lib", "usr"):
            link = part / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(system / name)
        last = f"{emulated.cores - 1}"
        cpus = f"0-{last}" if emulated.cores > 1 else "0"
        files = {f"sys/devices/system/cpu/{name}": cpus for name in ("possible", "present", "online")}
        files |= {"sys/devices/system/cpu/kernel_max": last, _CPUINFO: cpuinfo(emulated)}
        for name, text in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(text + "\n", encoding="ascii")

    return made_once(boards / digest, _CPUINFO, write)


def cpuinfo(emulated: Emulated) -> str:
    r"""The text of /proc/cpuinfo, as Linux writes it on arm64.

    >>> lines = cpuinfo(Emulated(cpu="cortex-a72", part="0xd08", features=("fp", "asimd"), cores=2)).splitlines()
    >>> lines[0], lines[2], lines[6], lines[9]
    ('processor\t: 0', 'Features\t: fp asimd', 'CPU part\t: 0xd08', 'processor\t: 1')
    """
    fields = (
        ("BogoMIPS\t", "108.00"),
        ("Features\t", " ".join(emulated.features)),
        ("CPU implementer\t", IMPLEMENTER),
        ("CPU architecture", "8"),
        ("CPU variant\t", "0x0"),
        ("CPU part\t", emulated.part),
        ("CPU revision\t", "3"),
    )
    lines = [f"{name}: {value}" for name, value in fields]
    return "\n".join("\n".join([f"processor\t: {number}", *lines, ""]) for number in range(emulated.cores))
