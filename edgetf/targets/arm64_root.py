"""The arm64 system that emulated processors run: Debian's packages unpacked, wheels, qemu, and the counting plugin.

Nothing is installed on this machine and no privilege is needed: apt-get downloads with a state of its own, dpkg-deb
unpacks, and pip takes wheels for another platform. qemu-user is unpacked the same way, with the libraries that this
machine lacks. It reads the programs of its guest from the folder named by -L, so that no mounts are needed.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetf.core.errors import DeviceError
from edgetf.core.files import read_json
from edgetf.core.made import versions
from edgetf.core.places import cache_folder
from edgetf.targets.making import made_once, quietly

NAME = "emulated-arm64"
WHEELS = {
    "onnxruntime": ">=1.19",
    "ai-edge-litert": ">=2.1",
    "numpy": ">=1.26",
    "pyyaml": ">=6.0",
    "tokenizers": ">=0.20",
}
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgcc-s1", "zlib1g")
GLIBC = range(36, 16, -1)  # minor versions whose wheels Debian 12 runs
PLUGIN_SOURCE = Path(__file__).parent / "tcg" / "count.c"
MANIFEST = "made.json"
_QEMU = "usr/bin/qemu-aarch64"
_APT = "install Debian's apt, or run in a debian:bookworm container"
_SET_UP = f"run: edgetf targets setup {NAME}"
# The hooks and locks of the system's own apt are not for a private download.
_APT_SETTINGS = """
#clear APT::Architectures;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::State "{folder}/state";
Dir::State::status "{status}";
Dir::Cache "{folder}/cache";
"""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Root:
    """What was made, and where its parts lie."""

    folder: Path
    python: str  # of the guest, e.g. "3.11"
    versions: dict[str, str]  # of the wheels

    @property
    def qemu(self) -> Path:
        return self.folder / "host" / _QEMU

    @property
    def libraries(self) -> str:
        """LD_LIBRARY_PATH of qemu itself."""
        return ":".join(map(str, sorted(self.folder.glob("host/usr/lib/*-linux-gnu*"))))

    @property
    def system(self) -> Path:
        return self.folder / "root"

    @property
    def site(self) -> Path:
        return self.folder / "site"

    @property
    def plugin(self) -> Path:
        return self.folder / "count.so"


def requirements() -> list[str]:
    """The wheels of the guest: the versions that this machine has, so that only the processor differs.

    The names come without a version where this machine has none of the package.
    """
    here = versions(*WHEELS)
    return [f"{name}=={here[name]}" if name in here else name + floor for name, floor in WHEELS.items()]


def root_folder() -> Path:
    """Where it lies: the name tells the versions of the wheels, the packages and the plugin apart."""
    source = PLUGIN_SOURCE.read_text(encoding="utf-8")
    parts = [*requirements(), *PACKAGES, source, platform.machine()]
    return cache_folder() / "targets" / f"{NAME}-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:12]}"


def find_root() -> Root:
    """What was made before.

    Raises:
        DeviceError: it was not.
    """
    folder = root_folder()
    if not (folder / MANIFEST).is_file():
        raise DeviceError(f"{NAME}: not set up; {_SET_UP}")
    record: dict[str, Any] = read_json(folder / MANIFEST)
    return Root(folder, record["python"], record["versions"])


def make_root(say: Say) -> Root:
    """Make it, if it is not there; `say` tells of each part.

    Raises:
        DeviceError: a tool is missing or fails, with what to do.
        ArtifactError: the disk is full.
    """

    def write(part: Path) -> None:
        part.mkdir(parents=True)
        say("packages of arm64 Debian")
        found = _unpack(part / "root", PACKAGES, "arm64", None)
        python = _python_version(part / "root")
        say(f"wheels for arm64: {', '.join(requirements())}")
        _install_wheels(part / "site", python)
        say("qemu-user")
        found |= _unpack(part / "host", ("qemu-user",), _debian_name(), Path("/var/lib/dpkg/status"))
        for other in (part / "host" / _QEMU).parent.iterdir():  # it has a program for each of 30 processors
            if other.name != Path(_QEMU).name:
                other.unlink()
        say("the counting plugin")
        _compile(part / "count.so")
        record = {"python": python, "packages": found, "versions": _wheel_versions(part / "site")}
        (part / MANIFEST).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    made_once(root_folder(), MANIFEST, write)
    return find_root()


def _unpack(root: Path, packages: tuple[str, ...], architecture: str, status: Path | None) -> dict[str, str]:
    """Download packages with all that they need and `status` does not say is installed; their versions."""
    work = root.with_name(root.name + "-apt")
    (work / "cache" / "archives" / "partial").mkdir(parents=True)
    (work / "state" / "lists" / "partial").mkdir(parents=True)
    nothing = work / "status"
    nothing.touch()
    settings = work / "apt.conf"
    text = _APT_SETTINGS.format(architecture=architecture, folder=work, status=status or nothing)
    settings.write_text(text, encoding="utf-8")
    apt = ["apt-get", "-c", str(settings), "-qq", "-y"]
    quietly([*apt, "update"], NAME, _APT)
    quietly([*apt, "--download-only", "--reinstall", "install", *packages], NAME, _APT)
    root.mkdir()
    found = {}
    for archive in sorted((work / "cache" / "archives").glob("*.deb")):
        quietly(["dpkg-deb", "-x", str(archive), str(root)], NAME, _APT)
        name, version, _ = archive.stem.split("_", 2)
        found[name] = version.replace("%3a", ":")
    for name in ("bin", "lib"):
        if not (root / name).exists():  # where Debian leaves that link to a package that is not needed
            (root / name).symlink_to(f"usr/{name}")
    shutil.rmtree(work)
    return found


def _python_version(root: Path) -> str:
    found = [re.fullmatch(r"python(3\.\d+)", path.name) for path in (root / "usr" / "bin").iterdir()]
    names = [match.group(1) for match in found if match is not None]
    if len(names) != 1:
        raise DeviceError(f"{NAME}: not available, Debian's packages hold no Python 3; {_APT}")
    return names[0]


def _install_wheels(site: Path, python: str) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in GLIBC]
    platforms.append("--platform=manylinux2014_aarch64")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    wanted = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    help_ = "the machine needs pip and a package index that has these wheels for arm64"
    quietly([*pip, "--target", str(site), *wanted, *requirements()], NAME, help_)


def _wheel_versions(site: Path) -> dict[str, str]:
    """What lies in a folder of installed wheels, by the names of their records."""
    found = dict(path.name.removesuffix(".dist-info").rsplit("-", 1) for path in site.glob("*.dist-info"))
    return {name.replace("_", "-").lower(): version for name, version in sorted(found.items())}


def _debian_name() -> str:
    """Debian's word for this machine's architecture."""
    return quietly(["dpkg", "--print-architecture"], NAME, _APT).strip()


def _compile(plugin: Path) -> None:
    command = ["cc", "-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-o", str(plugin)]
    quietly([*command, str(PLUGIN_SOURCE)], NAME, "run: apt-get install gcc libc6-dev")
