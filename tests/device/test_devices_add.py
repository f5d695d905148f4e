"""`edgetf devices add` on a board: a profile whose every figure says where it came from, and that measures at once."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import Cli
from sshd import LoopbackBoard, loopback_board
from tiny_graphs import write_onnx, write_tflite

from edgetf.core.device import load_device
from edgetf.targets.described import hardware_of, notes_of, title_of
from edgetf.targets.interpreter import Interpreter
from edgetf.targets.probe import findings

PI_4 = """Welcome to the board
@@ cpuinfo
processor\t: 0
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

processor\t: 1
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

Serial\t\t: 10000000abcdef01

@@ meminfo
MemTotal:        3884336 kB

@@ model
Raspberry Pi 4 Model B Rev 1.4
@@ values
/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq:1800000
/sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq:1800000
/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor:ondemand
/sys/devices/system/cpu/cpu0/cache/index0/level:1
/sys/devices/system/cpu/cpu0/cache/index0/type:Data
/sys/devices/system/cpu/cpu0/cache/index0/size:32K
/sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list:0
/sys/devices/system/cpu/cpu0/cache/index2/level:2
/sys/devices/system/cpu/cpu0/cache/index2/type:Unified
/sys/devices/system/cpu/cpu0/cache/index2/size:1M
/sys/devices/system/cpu/cpu0/cache/index2/shared_cpu_list:0-1
/sys/class/thermal/thermal_zone0/type:cpu-thermal

@@ hostname
pi

@@ vcgencmd get_throttled
throttled=0x50000

@@ try ort
{"version": "1.23.0", "providers": ["CPUExecutionProvider"]}
@@ try litert
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackBoard]:
    with loopback_board(tmp_path_factory.mktemp("added") / "b") as found:
        yield found


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own profiles."""
    folder = tmp_path / "devices"
    monkeypatch.setenv("EDGETF_DEVICES", str(folder))
    return folder


def words(board: LoopbackBoard, name: str = "mine", **more: str) -> list[str]:
    """`edgetf devices add` for the board."""
    own = yaml.safe_load(board.profile(board.folder).read_text())["ssh"]
    options = {"ssh": own["host"], **{name: own[name] for name in ("port", "identity", "config", "python")}, **more}
    return ["devices", "add", name, *(word for key, value in options.items() for word in (f"--{key}", str(value)))]


def test_an_added_board_measures(cli: Cli, board: LoopbackBoard, devices: Path, tmp_path: Path) -> None:
    done = cli(*words(board), "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    profile = load_device("mine")
    assert shown["name"] == profile.name == "mine"
    assert (profile.target, profile.architecture) == ("ssh", os.uname().machine)
    assert {"ort", "litert"} <= set(profile.runtimes)
    assert profile.python == (".".join(map(str, sys.version_info[:2])),)
    assert sum(kind.count for kind in profile.cores) == os.cpu_count()
    assert profile.memory is not None and profile.memory.sizes_gib[0] > 0.1
    figures = [*profile.cores, *profile.caches, profile.memory]
    assert all(figure.source.startswith("measured: edgetf devices add, 20") for figure in figures)
    assert "CPUExecutionProvider" in profile.providers
    bench = cli("bench", write_onnx(tmp_path / "model.onnx"), "--device", "mine", "--seq-len", 8, "--json")
    assert json.loads(bench.stdout)["how"] == "measured"


def test_a_profile_is_not_written_over(cli: Cli, board: LoopbackBoard, devices: Path) -> None:
    assert cli(*words(board)).returncode == 0
    (devices / "mine.yaml").write_text("the user's own notes")
    again = cli(*words(board))
    assert again.returncode == 2 and "is there already; give --force" in again.stderr
    assert (devices / "mine.yaml").read_text() == "the user's own notes"
    assert cli(*words(board), "--force").returncode == 0
    assert load_device("mine").target == "ssh"


@pytest.mark.parametrize("name", ["host", "raspberry_pi_4"])
def test_a_shipped_device_keeps_its_name(cli: Cli, board: LoopbackBoard, devices: Path, name: str) -> None:
    done = cli(*words(board, name))
    assert done.returncode == 2 and "a shipped device has that name" in done.stderr
    assert not devices.exists()


@pytest.mark.parametrize("name", ["add", "../x", "a.yaml", ""])
def test_a_name_that_would_not_be_found_again_is_refused(
    cli: Cli, board: LoopbackBoard, devices: Path, name: str
) -> None:
    assert cli(*words(board, name)).returncode == 2
    assert not devices.exists()


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("python7", "python7 cannot be run there"),
        ("bare", r"edgetf is not installed for .* or add the board with --zip"),
    ],
)
def test_a_board_that_could_not_run_anything_is_not_added(
    cli: Cli, board: LoopbackBoard, devices: Path, python: str, message: str
) -> None:
    if python == "bare":
        python = str(bare_python(board))
    done = cli(*words(board, python=python))
    assert done.returncode == 4
    assert re.search(message, done.stderr), done.stderr
    assert not devices.exists()


def test_a_group_of_commands_still_shows_devices(cli: Cli) -> None:
    assert "host" in {device["name"] for device in json.loads(cli("devices", "--json").stdout)}
    assert json.loads(cli("devices", "--json", "host").stdout)["name"] == "host"
    assert cli("devices", "hots").returncode == 2
    assert "add" in cli("devices", "--help").stdout


@pytest.mark.slow
def test_a_board_with_a_bare_python_gets_one_file(
    cli: Cli, board: LoopbackBoard, devices: Path, tmp_path: Path
) -> None:
    done = cli(*words(board, python=str(bare_python(board)), folder="zipped"), "--zip")
    if "no wheels of" in done.stderr:
        pytest.skip(f"needs a package index: {done.stderr}")
    assert done.returncode == 0, done.stderr
    for model in (write_onnx(tmp_path / "model.onnx"), write_tflite(tmp_path / "model.tflite")):
        bench = cli("bench", model, "--device", "mine", "--seq-len", 8, "--json")
        assert json.loads(bench.stdout)["models"][0]["n"] == 60, bench.stderr
    (application,) = (board.home / "zipped").glob("*.pyz")
    packages = {path.name for path in application.with_suffix(".app").iterdir()}
    assert {"edgetf", "numpy", "onnxruntime", "ai_edge_litert"} <= packages
    assert not packages & {"pydantic", "typer", "rich", "yaml", "tokenizers"}
    before = {path: path.stat().st_mtime_ns for path in application.with_suffix(".app").rglob("*.so")}
    assert cli("bench", tmp_path / "model.onnx", "--device", "mine", "--seq-len", 8).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_a_pi_says_becomes_figures_with_their_files() -> None:
    found = findings(PI_4)
    hardware = hardware_of(found, "measured: edgetf devices add, 2026-01-01")
    assert hardware["instructions"] == ["fp", "asimd", "crc32"]
    (cores,) = hardware["cores"]
    assert (cores["model"], cores["count"], cores["clock_mhz"]) == ("Cortex-A72", 2, 1800.0)
    assert [(each["level"], each["kib"], each["shared_by"]) for each in hardware["caches"]] == [
        ("L1d", 32, "core"), ("L2", 1024, "all"),
    ]  # fmt: skip
    assert hardware["memory"]["sizes_gib"] == [3.7]
    assert title_of(found) == "Raspberry Pi 4 Model B Rev 1.4 (pi)"
    notes = notes_of(found, Interpreter("aarch64", "3.11", "2.36"), "measured")
    assert notes == [
        "measured: Python 3.11, glibc 2.36, ort 1.23.0",
        "Governor when it was added: ondemand (cpufreq/scaling_governor)",
        "vcgencmd get_throttled said when it was added: throttled=0x50000",
        "Temperatures: /sys/class/thermal, cpu-thermal",
    ]


def bare_python(board: LoopbackBoard) -> Path:
    """A Python of the board that has its own library and nothing else."""
    path = board.folder / "bare"
    path.write_text(f'#!/bin/sh\nexec {sys.base_prefix}/bin/python3 -I -S "$@"\n')
    path.chmod(0o755)
    return path
