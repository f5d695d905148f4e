"""The device runner is base edgetf and one runtime: proven on an arm64 system that has Python and nothing else.

A copy of the unpacked Debian packages is entered by proot, every program there run by qemu-user. pip, from its own
wheel, installs edgetf[ort] from the built wheel as a board would, and `edgetf validate` runs there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Cli, TinyRun
from emulation import AWAY, set_up

from edgetf.core.device import load_device
from edgetf.targets.board import board_folder

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
BOUND = ("/dev", "/proc", "/sys", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs")


@dataclass(frozen=True)
class BareBoard:
    """An arm64 system; `work` is the only folder that it shares with this machine, under the same name."""

    enter: list[str]
    work: Path

    def run(self, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Run its Python with these words."""
        env = {"PATH": "/usr/bin:/bin", "HOME": "/", "PROOT_TMP_DIR": str(self.work), **more}
        command = [*self.enter, "/usr/bin/python3.11", *map(str, words)]
        return subprocess.run(command, env=env, cwd=self.work, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def bare(cli: Cli, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> BareBoard:
    proot = shutil.which("proot")
    if proot is None:
        pytest.skip("needs proot")
    root = set_up(cli, cache)
    emulated = load_device("emulated_a76").emulated
    assert emulated is not None
    cpuinfo = board_folder(root.folder / "boards", root.system, emulated) / "proc/cpuinfo"
    system, work = tmp_path_factory.mktemp("bare") / "system", tmp_path_factory.mktemp("work")
    shutil.copytree(root.system, system, symlinks=True)
    bound = [*filter(os.path.exists, BOUND), f"{cpuinfo}:/proc/cpuinfo", str(work)]
    enter = [proot, "-q", f"{root.qemu} -cpu {emulated.cpu}", "-r", str(system), "-w", str(work)]
    return BareBoard([*enter, *(word for place in bound for word in ("-b", place))], work)


@pytest.fixture(scope="module")
def installed(bare: BareBoard) -> BareBoard:
    """With edgetf[ort] in `site`, installed by the board's own pip from the built wheel."""
    here = bare.work
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(here), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(here), "pip"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"pip's wheel cannot be had: {done.stderr[-200:]}")
    wheel, pip_wheel = next(here.glob("edgetf-*.whl")), next(here.glob("pip-*.whl"))
    options = ["--only-binary=:all:", "--no-cache-dir", "--no-compile", "--target", here / "site"]
    index = {name: value for name, value in os.environ.items() if name in ("PIP_INDEX_URL", "PIP_CERT")}
    done = bare.run(pip_wheel / "pip", "install", *options, f"edgetf[ort] @ {wheel.as_uri()}", **index)
    if done.returncode != 0 and any(word in done.stderr for word in AWAY):
        pytest.skip(f"no package index from there: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return bare


def test_the_board_has_python_and_nothing_else(bare: BareBoard) -> None:
    code = (
        "import importlib.util, os, platform; print(platform.machine(), os.path.exists('/bin/sh'), "
        "[name for name in ('pip', 'numpy', 'onnxruntime', 'edgetf') if importlib.util.find_spec(name)])"
    )
    done = bare.run("-c", code)
    assert done.stdout.split() == ["aarch64", "False", "[]"], done.stdout + done.stderr


def test_base_edgetf_and_one_runtime_validate_there(installed: BareBoard, tiny_run: TinyRun) -> None:
    work = installed.work
    for name in ("onnx-w8a8_dynamic", "teacher-onnx-fp32"):
        shutil.copytree(tiny_run.folder / name, work / name)
    words = ("validate", "onnx-w8a8_dynamic", "--samples", "30", "--seq-len", "8", "--json")
    done = installed.run("-m", "edgetf", *words, PYTHONPATH=str(work / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["verdict"] == "pass" and document["made"]["versions"]["onnxruntime"]
    (row,) = document["devices"]
    assert row["machine"]["architecture"] == "aarch64" and row["problems"] == []
    assert {metric["name"] for metric in row["metrics"]} >= {"accuracy", "accuracy_drop"}
    names = {path.name.split("-")[0] for path in (work / "site").glob("*.dist-info")}
    assert {"edgetf", "numpy", "onnxruntime", "tokenizers"} <= names
    assert not names & {"torch", "transformers", "onnx", "ai_edge_litert"}
