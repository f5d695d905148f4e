"""The environment of the old runtime: made once, whole or not at all, by one process; what fails is one message."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetf.commands.bench import on_device
from edgetf.core.device import load_device
from edgetf.core.errors import DeviceError
from edgetf.runtime.model import Model
from edgetf.targets import side
from edgetf.targets.side import runner_command

Made = Callable[[list[str]], None]


def part_of(command: list[str]) -> Path:
    """The folder that a command writes in."""
    return Path(command[-1]) if "venv" in command else Path(command[0]).parent.parent


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run, in place of venv and pip, which write what they would."""
    commands: list[list[str]] = []

    def pretend(command: list[str]) -> None:
        commands.append(command)
        (part_of(command) / "bin").mkdir(parents=True, exist_ok=True)
        (part_of(command) / "bin" / "python").touch()

    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path))
    monkeypatch.delenv(side.VARIABLE, raising=False)
    monkeypatch.setattr(side, "PYTHON", sys.version_info[:2])
    monkeypatch.setattr(side, "_quietly", pretend)
    return commands


def environments(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "environments").iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("backends", [{"ort"}, {"litert", "ort"}, {"fake"}, {"None"}, set[str]()])
def test_other_backends_run_in_this_python(made: list[list[str]], backends: set[str]) -> None:
    assert runner_command(backends) == [sys.executable, "-m", "edgetf.runtime.runner"]
    assert made == []


def test_it_is_made_once(made: list[list[str]], tmp_path: Path) -> None:
    first, second = runner_command({side.BACKEND}), runner_command({side.BACKEND})
    assert first == second
    assert [command[2] for command in made] == ["venv", "pip"]
    assert made[1][-3:] == list(side.NEEDS)
    (name,) = environments(tmp_path)
    assert Path(first[0]) == tmp_path / "environments" / name / "bin" / "python"
    assert Path(first[0]).is_file()


def test_the_packages_of_the_tool_come_last(made: list[list[str]]) -> None:
    """Or an installed edgetf would bring the numpy along that the old runtime cannot be loaded with."""
    code = runner_command({side.BACKEND})[2]
    assert "sys.path.append" in code
    assert str(Path(side.__file__).parents[2]) in code


def test_a_failed_install_leaves_nothing(
    made: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = side._quietly

    def fail(command: list[str]) -> None:
        before(command)
        if "pip" in command:
            raise DeviceError("tflite_runtime: not available, pip failed")

    monkeypatch.setattr(side, "_quietly", fail)
    with pytest.raises(DeviceError, match="not available"):
        runner_command({side.BACKEND})
    assert environments(tmp_path) == []
    monkeypatch.setattr(side, "_quietly", before)
    assert Path(runner_command({side.BACKEND})[0]).is_file()


def test_what_a_killed_install_left_is_not_taken_for_whole(made: list[list[str]], tmp_path: Path) -> None:
    whole = Path(runner_command({side.BACKEND})[0]).parent.parent
    left = whole.rename(whole.with_suffix(".partial"))
    (left / "rest").touch()
    assert Path(runner_command({side.BACKEND})[0]).is_file()
    assert len(made) == 4
    assert environments(tmp_path) == [whole.name]
    assert not (whole / "rest").exists()


def test_an_environment_whose_python_has_gone_is_made_again(made: list[list[str]]) -> None:
    python = Path(runner_command({side.BACKEND})[0])
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert Path(runner_command({side.BACKEND})[0]).is_file()
    assert len(made) == 4


def test_two_at_once_make_one(made: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    before = side._quietly

    def slowly(command: list[str]) -> None:
        time.sleep(0.2)
        before(command)

    monkeypatch.setattr(side, "_quietly", slowly)
    threads = [threading.Thread(target=runner_command, args=({side.BACKEND},)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2


def test_another_python_is_told_what_to_do(made: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "PYTHON", (2, 7))
    here = ".".join(map(str, sys.version_info[:2]))
    message = rf"not available for Python {here}, allowed: 2\.7; set EDGETF_TFLITE_RUNTIME_PYTHON to a Python that has"
    with pytest.raises(DeviceError, match=message):
        runner_command({side.BACKEND})
    assert made == []


def test_a_named_python_is_taken(made: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "PYTHON", (2, 7))
    monkeypatch.setenv(side.VARIABLE, sys.executable)
    assert runner_command({side.BACKEND})[0] == sys.executable
    assert made == []


@pytest.mark.parametrize("named", ["/nowhere/python", "/"])
def test_a_named_python_that_is_none_is_a_device_error(
    made: list[list[str]], monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv(side.VARIABLE, named)
    with pytest.raises(DeviceError, match=f"{side.VARIABLE}: got {named}, allowed: a Python to run"):
        runner_command({side.BACKEND})


def test_it_runs_beside_no_other(made: list[list[str]]) -> None:
    with pytest.raises(DeviceError, match="tflite_runtime: runs in a process of its own, without ort; time them one"):
        runner_command({side.BACKEND, "ort"})


@pytest.mark.parametrize(
    ("device", "backend", "ran"),
    [
        ("host_tflite_runtime", "litert", "tflite_runtime"),
        ("host", "litert", "litert"),
        ("host", "ort", "ort"),
        ("host_tflite_runtime", "ort", "ort"),
        ("host", "plugged", "plugged"),
    ],
)
def test_bench_takes_the_runtime_that_the_device_has(device: str, backend: str, ran: str) -> None:
    model = Model("m", Path(), "model", backend, max_length=8)
    assert on_device(load_device(device), model).backend == ran


def test_what_a_command_says_is_in_the_message() -> None:
    says = "import sys; print('noise'); print('ERROR: no wheel', file=sys.stderr); print('more'); sys.exit(1)"
    with pytest.raises(DeviceError, match=r"not available, .* failed \(ERROR: no wheel\); set EDGETF_TFLITE") as caught:
        side._quietly([sys.executable, "-c", says])
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
