"""Files go to a board once, whole, and under the name of their bytes; what is old goes, what is the user's stays."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath

import pytest
from this_machine import ThisMachine

from edgetf.core.errors import DeviceError
from edgetf.core.files import file_sha256
from edgetf.targets.behind_shell import died
from edgetf.targets.delivery import KEPT, deliver
from edgetf.targets.shell import Done, run_here


class Counting(ThisMachine):
    """Notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, path: Path, place: PurePosixPath) -> Done:
        self.sent.append(place.name)
        return super().send(path, place)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(os.urandom(100_000))
    return path


def place_of(path: Path, folder: Path) -> PurePosixPath:
    return PurePosixPath(folder) / f"{file_sha256(path)[:16]}.onnx"


def test_a_file_is_sent_once_and_whole(model: Path, tmp_path: Path) -> None:
    shell, place = Counting(), place_of(model, tmp_path / 'a board\'s "folder" $HOME')
    for _ in range(2):
        deliver(shell, sys.executable, {place: model})
    assert Path(place).read_bytes() == model.read_bytes()
    assert len(shell.sent) == 1 and shell.sent[0].endswith(".part")  # the name comes last


def test_a_file_that_changed_there_is_sent_anew(model: Path, tmp_path: Path) -> None:
    shell, place = Counting(), place_of(model, tmp_path / "board")
    deliver(shell, sys.executable, {place: model})
    Path(place).write_bytes(model.read_bytes()[:-1])
    deliver(shell, sys.executable, {place: model})
    assert Path(place).read_bytes() == model.read_bytes() and len(shell.sent) == 2


def test_a_board_without_sha256sum_hashes_by_python(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "mkdir", "mv", "cp", "touch", "rm", "ls", "grep", "tail", "find"):
        found = run_here(["sh", "-c", f"command -v {name}"], "here", 5.0).out.strip()
        (tools / name).symlink_to(found)
    place = place_of(model, tmp_path / "board")
    monkeypatch.setenv("PATH", str(tools))
    deliver(ThisMachine(), sys.executable, {place: model})
    assert Path(place).read_bytes() == model.read_bytes()


def test_what_is_used_stays_and_the_oldest_goes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "board"
    folder.mkdir()
    for number in range(KEPT):
        old = folder / f"{number:016x}.pyz"
        old.write_text("old")
        os.utime(old, (1000 + number, 1000 + number))
        old.with_suffix(".app").mkdir()
        os.utime(old.with_suffix(".app"), (1000 + number, 1000 + number))
    for mine in ("notes.txt", "0123.onnx"):
        (folder / mine).write_text("the user's own")
    left = folder / "0000000000000000.onnx.12345678.part"
    left.write_text("a killed upload")
    os.utime(left, (1000, 1000))
    deliver(ThisMachine(), sys.executable, {place_of(model, folder): model})
    names = {path.name for path in folder.iterdir()}
    assert {place_of(model, folder).name, "notes.txt", "0123.onnx", f"{KEPT - 1:016x}.pyz"} <= names
    assert f"{0:016x}.pyz" not in names and f"{0:016x}.app" not in names and left.name not in names
    assert len(names) == KEPT + 2
    assert f"the newest {KEPT} are kept" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = place_of(model, tmp_path / "file" / "board")
    with pytest.raises(DeviceError, match="here: .*file/board on the device: does not take a file"):
        deliver(ThisMachine(), sys.executable, {place: model})


@pytest.mark.parametrize(
    ("code", "said", "message"),
    [
        (75, "", "the connection was lost while the runner worked, so it ended itself"),
        (127, "sh: 1: python: not found", "python cannot be run there; install Python 3.10 or newer"),
        (
            1,
            "/usr/bin/python: No module named edgetf",
            r"edgetf is not installed .* sh -c python -m pip install 'edgetf",
        ),
        (137, "loading", "the runner was killed there, most often for want of memory: loading"),
        (1, "a bug", "the runner ended with code 1 and no result: a bug"),
    ],
)
def test_a_runner_that_ended_says_why(code: int, said: str, message: str) -> None:
    words = died(ThisMachine(), "python", code, said)
    assert words.startswith("here: ")
    assert re.search(message, words), words
