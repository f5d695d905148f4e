"""SSH into arm64 for real: the server's every command runs in an unpacked arm64 Debian, entered by proot and qemu-user.

That system has Python and a shell, and neither pip nor numpy, so the runner comes as a zip application. What it
computes is right for that processor; how long it takes is not, so no milliseconds are reported.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import Cli, TinyRun
from emulation import AWAY
from sshd import LoopbackBoard, loopback_board

from edgetf.core.device import load_device
from edgetf.core.errors import DeviceError
from edgetf.targets import arm64_root
from edgetf.targets.board import board_folder

pytestmark = pytest.mark.slow

USERLAND = ("dash", "coreutils", "grep", "findutils")


@dataclass(frozen=True)
class Arm64:
    """The board and the profile that was made of it."""

    board: LoopbackBoard
    profile: Path


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An arm64 Debian with Python and a shell."""
    missing = [tool for tool in ("proot", "qemu-aarch64", "apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    root = tmp_path_factory.mktemp("arm64") / "root"
    try:
        arm64_root._unpack(root, (*arm64_root.PACKAGES, *USERLAND), "arm64", None)
    except DeviceError as error:
        pytest.skip(f"arm64 Debian cannot be downloaded: {error}")
    return root


@pytest.fixture(scope="module")
def arm64(cli: Cli, system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arm64]:
    """Added by `edgetf devices add`."""
    folder = tmp_path_factory.mktemp("arm64-board") / "b"
    emulated = load_device("emulated_a72").emulated
    assert emulated is not None
    seen = board_folder(folder.parent / "seen", system, emulated)
    bound = {"/dev": "/dev", "/proc": "/proc", f"{folder}/home": f"{folder}/home"}
    bound |= {f"{seen}/{name}": f"/{name}" for name in ("proc/cpuinfo", "sys/devices/system/cpu")}
    words = " ".join(f"-b {here}:{there}" for here, there in bound.items())
    enter = f'proot -q "qemu-aarch64 -cpu {emulated.cpu}" -r {system} {words} -w {folder}/home'
    with loopback_board(folder, enter=enter, shell=f"PROOT_TMP_DIR={folder}; export PROOT_TMP_DIR") as board:
        own = yaml.safe_load(board.profile(folder).read_text())["ssh"]
        options = [word for name in ("port", "identity", "config") for word in (f"--{name}", own[name])]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGETF_DEVICES", str(folder / "devices"))
            done = cli("devices", "add", "pi", "--ssh", own["host"], *options, "--zip", "--emulated")
        if any(word in done.stderr for word in AWAY):
            pytest.skip(f"no wheels for arm64: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
        yield Arm64(board, folder / "devices" / "pi.yaml")


def test_the_board_says_that_it_is_arm64(arm64: Arm64) -> None:
    profile = load_device(str(arm64.profile))
    assert (profile.architecture, profile.runtimes) == ("aarch64", ("ort", "litert"))
    assert [(kind.model, kind.count) for kind in profile.cores] == [("Cortex-A72", 4)]
    assert "asimd" in profile.instructions and "asimddp" not in profile.instructions
    assert profile.ssh is not None and profile.ssh.emulated


@pytest.mark.parametrize("name", ["onnx-w8a8_dynamic", "tflite-w8a8_dynamic"])
def test_a_variant_is_validated_there_without_milliseconds(
    cli: Cli, tiny_run: TinyRun, arm64: Arm64, name: str
) -> None:
    done = cli("validate", tiny_run.folder / name, "--device", arm64.profile, "--json")
    assert done.stdout, done.stderr
    row = json.loads(done.stdout)["devices"][0]
    assert (row["how"], row["problems"]) == ("emulated", []), row["why"]
    assert row["machine"]["architecture"] == "aarch64"
    assert {metric["name"] for metric in row["metrics"]} >= {"accuracy", "accuracy_drop"}
    assert row["parity"]["min_cosine"] >= 0.99
    assert all(row[name] is None for name in ("latency_p50_ms", "speedup", "peak_rss_bytes", "instructions"))
    assert "no milliseconds" in " ".join(row["why"])
    assert arm64.board.empties()


def test_milliseconds_of_it_are_refused(cli: Cli, tiny_run: TinyRun, arm64: Arm64) -> None:
    done = cli("bench", tiny_run.folder / "onnx-fp32", "--device", arm64.profile)
    assert done.returncode == 4
    assert "pi: an emulated processor gives no milliseconds" in done.stderr
