"""The zip application: only the runner goes in, it unpacks once, and a board that no wheel fits is told so."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from this_machine import ThisMachine

from edgetf.core.errors import DeviceError
from edgetf.targets.application import application_for, runner_modules
from edgetf.targets.application_main import unpacked
from edgetf.targets.interpreter import Interpreter, interpreter_of

HERE = Interpreter("x86_64", "3.11", "2.36")


def zipped(path: Path, size: int = 1000) -> Path:
    """A small application."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20):
            archive.writestr(f"package/{number}.py", "x" * size)
    return path


def test_only_the_runner_goes_in() -> None:
    names = {path.stem for path in runner_modules()}
    assert {"runner", "lease", "ort", "litert", "tflite_runtime", "load", "model"} <= names
    assert not names & {"device", "hardware", "strict", "validate", "cli", "local", "ssh"}
    heavy = ("pydantic", "typer", "rich", "yaml")
    code = f"import sys, edgetf.runtime.runner; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_it_unpacks_once(tmp_path: Path) -> None:
    application = zipped(tmp_path / "a.pyz")
    place = unpacked(application)
    (place / "package" / "0.py").write_text("changed")
    assert unpacked(application) == place == tmp_path / "a.app"
    assert (place / "package" / "0.py").read_text() == "changed"


def test_several_may_unpack_at_once(tmp_path: Path) -> None:
    application = zipped(tmp_path / "a.pyz", 100_000)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(unpacked, [application] * 8)) == {tmp_path / "a.app"}
    assert len(list((tmp_path / "a.app" / "package").iterdir())) == 20
    assert {path.name for path in tmp_path.iterdir()} == {"a.pyz", "a.app"}


def test_a_place_that_takes_nothing_is_named(tmp_path: Path) -> None:
    link = tmp_path / "a.pyz"
    link.symlink_to(zipped(tmp_path / "real.pyz"))
    (tmp_path / "a.app").write_text("a file in the way")
    with pytest.raises(SystemExit, match=r"a\.app: the runner cannot be unpacked there \(Not a directory\)"):
        unpacked(link)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("backend", "there", "message"),
    [
        ("fake", HERE, "backend fake does not travel in a zip application, allowed: ort, litert"),
        ("ort", Interpreter("aarch64", "3.11", ""), "its Python has no glibc"),
        ("tflite_runtime", Interpreter("x86_64", "3.13", "2.36"), r"no wheels of .* for x86_64, Python 3.13 and glibc"),
        ("ort", Interpreter("x86_64", "3.11", "2.5"), r"no wheels of .* for x86_64, Python 3.11 and glibc 2.5"),
    ],
)
def test_what_does_not_fit_is_said(
    backend: str, there: Interpreter, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETF_CACHE", str(tmp_path))
    with pytest.raises(DeviceError, match=f"board: {message}"):
        application_for({backend}, there, "board")
    assert not list(tmp_path.rglob("*.pyz"))


def test_the_python_here_is_known() -> None:
    found = interpreter_of(ThisMachine(), sys.executable)
    assert found.python == ".".join(map(str, sys.version_info[:2]))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (["armv7l", "cpython", "3.11", "glibc", "2.36", False], "is for armv7l, 32 bits, allowed: aarch64 or x86_64"),
        (["aarch64", "cpython", "3.11", "glibc", "2.36", False], "is for aarch64, 32 bits"),
        (["aarch64", "pypy", "3.11", "glibc", "2.36", True], "is pypy 3.11, allowed: CPython 3.10 or newer"),
        (["aarch64", "cpython", "3.7", "glibc", "2.28", True], "is cpython 3.7, allowed: CPython 3.10 or newer"),
    ],
)
def test_a_python_that_runs_nothing_of_ours_is_refused(answer: list[object], message: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    python.chmod(0o755)
    with pytest.raises(DeviceError, match=message):
        interpreter_of(ThisMachine(), str(python))
