"""Setting up emulated arm64: what is missing is named, and what fails leaves nothing behind."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from edgetf.core.errors import DeviceError
from edgetf.core.reach import Emulated
from edgetf.targets import arm64_root
from edgetf.targets.arm64_root import find_root, make_root, requirements, root_folder
from edgetf.targets.board import board_folder
from edgetf.targets.making import quietly

A72 = Emulated(cpu="cortex-a72", part="0xd08", features=("fp", "asimd"), cores=4)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path))
    return tmp_path


def test_without_apt_the_message_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    said: list[str] = []
    with pytest.raises(DeviceError, match=r"apt-get is not installed; install Debian's apt, or run in a debian:"):
        make_root(said.append)
    assert said == ["packages of arm64 Debian"]
    assert [path.suffix for path in (cache / "targets").iterdir()] == [".lock"]
    with pytest.raises(DeviceError, match="run: edgetf targets setup emulated-arm64"):
        find_root()


def test_without_a_compiler_gcc_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="cc is not installed; run: apt-get install gcc"):
        arm64_root._compile(tmp_path / "count.so")


def test_a_command_that_fails_is_told_in_its_last_words(tmp_path: Path) -> None:
    script = "echo going; echo 'E: Unable to locate package x' >&2; echo more >&2; exit 100"
    with pytest.raises(
        DeviceError, match=r"thing: not available, sh failed \(E: Unable to locate package x\); do that"
    ):
        quietly(["sh", "-c", script], "thing", "do that")


def test_wheels_are_those_that_are_here(cache: Path) -> None:
    assert f"numpy=={version('numpy')}" in requirements()


def test_another_version_is_another_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = root_folder()
    monkeypatch.setattr(arm64_root, "versions", lambda *names: {"numpy": "1.26.4"})
    assert root_folder() != before
    assert "onnxruntime>=1.19" in requirements() and "numpy==1.26.4" in requirements()


def test_a_board_shows_its_own_processor(tmp_path: Path) -> None:
    folder = board_folder(tmp_path / "boards", tmp_path / "root", A72)
    assert (folder / "proc/cpuinfo").read_text().count("CPU part\t: 0xd08") == 4
    assert (folder / "sys/devices/system/cpu/possible").read_text() == "0-3\n"
    assert (folder / "usr").readlink() == tmp_path / "root" / "usr"
    one = board_folder(tmp_path / "boards", tmp_path / "root", A72.model_copy(update={"cores": 1}))
    assert one != folder and (one / "sys/devices/system/cpu/online").read_text() == "0\n"
