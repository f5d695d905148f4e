"""The real adb client and a stand-in for a device: files, the runner and every fault pass as over ssh.

The stand-in (`adb_device.py`) has no bionic and no app sandbox: nothing here says that a phone was measured.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from conftest import Cli, TinyRun
from sshd import SLOW_RUNTIME, free_port, package, runners_of
from tiny_graphs import write_onnx

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 15.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An adb server of our own, and the variables that find it."""
    if shutil.which("adb") is None:
        pytest.skip("needs adb: apt-get install adb")
    home = tmp_path_factory.mktemp("adb")
    env = {**os.environ, "ANDROID_ADB_SERVER_PORT": str(free_port()), "HOME": str(home), "ADB_MDNS": "0"}
    subprocess.run(["adb", "start-server"], env=env, check=True, capture_output=True, timeout=60)
    yield env
    subprocess.run(["adb", "kill-server"], env=env, capture_output=True, timeout=60)


@contextmanager
def device(
    server: dict[str, str], folder: Path, mode: str = "fine", packages: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A stand-in that is attached, and its profile."""
    port, home = free_port(), folder / "home"
    home.mkdir(parents=True)
    python = folder / "python"
    search = f"{packages}:{REPOSITORY}" if packages else str(REPOSITORY)
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{search}" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    command = [sys.executable, str(Path(__file__).with_name("adb_device.py")), str(port), str(home), mode]
    standin, serial = subprocess.Popen(command, stdin=subprocess.DEVNULL), f"127.0.0.1:{port}"
    try:
        for _ in range(50):
            done = subprocess.run(["adb", "connect", serial], env=server, capture_output=True, text=True, timeout=60)
            if "refused" not in done.stdout:
                break
            time.sleep(0.1)
        adb = {"serial": serial, "folder": "pushed", "python": str(python)}
        tree = {"name": "standin", "description": "a stand-in", "target": "adb", "architecture": "any", "adb": adb}
        profile = folder / "standin.yaml"
        profile.write_text(yaml.safe_dump({**tree, "runtimes": ["ort", "litert"]}))
        yield standin, profile
    finally:
        subprocess.run(["adb", "disconnect", serial], env=server, capture_output=True, timeout=60)
        standin.kill()
        standin.wait()


@pytest.fixture(autouse=True)
def _own_server(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", server["ANDROID_ADB_SERVER_PORT"])


@pytest.fixture(scope="module")
def attached(server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The profile of a device that works."""
    with device(server, tmp_path_factory.mktemp("attached") / "d") as (_, profile):
        yield profile


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("model") / "model.onnx")


def test_validate_over_adb(cli: Cli, tiny_run: TinyRun, attached: Path) -> None:
    words = ["validate", tiny_run.folder / "onnx-w8a8_dynamic", "--json", "--device"]
    there, here = (cli(*words, place) for place in (attached, "host"))
    assert there.returncode == 0, there.stderr
    row, own = (json.loads(done.stdout)["devices"][0] for done in (there, here))
    assert (row["how"], row["metrics"], row["verdict"]) == ("measured", own["metrics"], own["verdict"])
    assert row["speedup"] > 0


def test_a_file_is_pushed_once(cli: Cli, model: Path, attached: Path) -> None:
    folder = attached.parent / "home" / "pushed"
    assert cli("bench", model, "--seq-len", 8, "--device", attached).returncode == 0
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert cli("bench", model, "--seq-len", 8, "--device", attached).returncode == 0
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before


def fails(cli: Cli, model: Path, profile: Path, words: str) -> None:
    """The command ends in time with exit code 4 and those words."""
    before = time.monotonic()
    done = cli("bench", model, "--seq-len", 8, "--device", profile)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert time.monotonic() - before < SECONDS


def with_serial(profile: Path, folder: Path, serial: str | None) -> Path:
    """The same profile for another serial."""
    tree = yaml.safe_load(profile.read_text())
    path = folder / "standin.yaml"
    path.write_text(yaml.safe_dump({**tree, "adb": {**tree["adb"], "serial": serial}}))
    return path


def test_a_device_that_is_not_attached(cli: Cli, model: Path, attached: Path, tmp_path: Path) -> None:
    profile = with_serial(attached, tmp_path, "127.0.0.1:1")
    fails(cli, model, profile, "standin: it is not attached; see `adb devices`.* adb connect 127.0.0.1:1")


def test_several_devices_need_a_serial(
    cli: Cli, server: dict[str, str], model: Path, attached: Path, tmp_path: Path
) -> None:
    with device(server, tmp_path / "second"):
        fails(cli, model, with_serial(attached, tmp_path, None), "several devices are attached; set serial")


def test_no_device_at_all(
    cli: Cli, attached: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = str(free_port())
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", port)
    try:
        fails(cli, model, with_serial(attached, tmp_path, None), "no device is attached; plug one in")
    finally:
        subprocess.run(["adb", "kill-server"], env={**os.environ, "ANDROID_ADB_SERVER_PORT": port}, capture_output=True)


@pytest.mark.parametrize(
    ("mode", "words"),
    [("unauthorized", "has not allowed this machine; unlock it"), ("silent", "offline|not attached|no answer within")],
)
def test_a_device_that_does_not_let_us_in(
    cli: Cli, server: dict[str, str], model: Path, tmp_path: Path, mode: str, words: str
) -> None:
    with device(server, tmp_path / "d", mode) as (_, profile):
        fails(cli, model, profile, words)


def test_a_full_device_is_named_so(cli: Cli, server: dict[str, str], model: Path, tmp_path: Path) -> None:
    with device(server, tmp_path / "d", "full") as (_, profile):
        fails(cli, model, profile, "pushed on the device: its disk is full; free some space")
        assert list((tmp_path / "d" / "home" / "pushed").iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_device_that_goes_away_is_an_error_and_leaves_nothing_running(
    server: dict[str, str], model: Path, tmp_path: Path, how: signal.Signals
) -> None:
    packages = package(tmp_path / "packages", SLOW_RUNTIME)
    with device(server, tmp_path / "d", packages=packages) as (standin, profile):
        home = tmp_path / "d" / "home"
        command = [sys.executable, "-m", "edgetf", "bench", str(model), "--device", str(profile)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 60
        while not runners_of(home):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(2.5)
        standin.send_signal(how)
        before = time.monotonic()
        said = process.communicate(timeout=60)[1]
        assert time.monotonic() - before < SECONDS
        standin.send_signal(signal.SIGCONT)
        while runners_of(home) and time.monotonic() - before < 2 * SECONDS:
            time.sleep(0.1)
        assert runners_of(home) == []
    assert process.returncode == 4
    assert re.search("standin: (the connection was lost|no sign of life for 10 s)", said) and "Traceback" not in said


def test_a_device_is_added_by_its_serial(
    cli: Cli, attached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETF_DEVICES", str(tmp_path / "devices"))
    adb = yaml.safe_load(attached.read_text())["adb"]
    words = ["--adb", adb["serial"], "--python", adb["python"], "--folder", adb["folder"]]
    done = cli("devices", "add", "phone", *words, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["target"], shown["adb"]["serial"]) == ("adb", adb["serial"])
    assert {"ort", "litert"} <= set(shown["runtimes"]) and shown["cores"]
    wrong = cli("devices", "add", "other", *words, "--port", 22)
    assert wrong.returncode == 2 and "--port: not a field" in wrong.stderr
    assert "give one of the two" in cli("devices", "add", "other", *words, "--ssh", "pi").stderr
