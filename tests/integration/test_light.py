"""What must stay light: the help, the imports, and the wheel on a machine that has only a runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli, TinyRun

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "onnx", "accelerate", "huggingface_hub")
LIGHT = (
    "edgetf",
    "edgetf.cli",
    "edgetf.commands.infer",
    "edgetf.commands.validate",
    "edgetf.config.load",
    "edgetf.core.artifact",
    "edgetf.core.device",
    "edgetf.pipeline.plan",
    "edgetf.report.document",
    "edgetf.report.table",
    "edgetf.runtime.litert",
    "edgetf.runtime.ort",
    "edgetf.runtime.runner",
    "edgetf.targets.emulated",
    "edgetf.targets.local",
    "edgetf.targets.ssh",
    "edgetf.validation.emulated",
    "edgetf.validation.validate",
)


def test_help_answers_in_half_a_second(cli: Cli) -> None:
    best = float("inf")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    for _ in range(5):
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "edgetf", "--help"], capture_output=True, env=clean)
        best = min(best, time.monotonic() - started)
        assert done.returncode == 0
    assert best <= 0.5


@pytest.mark.parametrize("module", LIGHT)
def test_runtime_imports_without_torch(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_runner_of_a_device_is_light() -> None:
    """It must start on a board, and under emulation, with what the tool itself uses left out."""
    heavy = (*HEAVY, "pydantic", "typer", "rich", "tokenizers", "onnxruntime")
    code = f"import sys, edgetf.runtime.runner; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_lists_and_doctor_speak_json(cli: Cli) -> None:
    assert {recipe["name"] for recipe in json.loads(cli("recipes", "--json").stdout)} >= {"quickstart", "mobilebert"}
    assert json.loads(cli("recipes", "quickstart", "--json").stdout)["name"] == "quickstart"
    assert "host" in {device["name"] for device in json.loads(cli("devices", "--json").stdout)}
    assert json.loads(cli("devices", "host", "--json").stdout)["target"] == "local"
    doctor = json.loads(cli("doctor", "--json").stdout)
    assert doctor["extras"]["base"] and doctor["machine"]["cores"]
    for words in (["recipes"], ["recipes", "quickstart"], ["devices"], ["devices", "host"], ["doctor"], ["--version"]):
        done = cli(*words)
        assert done.returncode == 0 and done.stdout


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment with the wheel and one runtime, as on a board; gives its bin folder."""
    folder = tmp_path_factory.mktemp("board")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    wheel = next(folder.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", f"{wheel}[ort]"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode != 0 and "Could not find a version" in done.stderr:
        pytest.skip(f"the packages of [ort] cannot be had here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return folder / "venv" / "bin"


def on_board(board: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    return subprocess.run([str(board / "edgetf"), *map(str, words)], capture_output=True, text=True, cwd=cwd, env=env)


@pytest.mark.slow
def test_wheel_finds_recipes_and_devices(board: Path, tmp_path: Path) -> None:
    recipes = on_board(board, "recipes", "--json", cwd=tmp_path)
    assert {recipe["name"] for recipe in json.loads(recipes.stdout)} >= {"quickstart", "mobilebert", "minilm_3l"}
    devices = on_board(board, "devices", "--json", cwd=tmp_path)
    assert "host" in {device["name"] for device in json.loads(devices.stdout)}
    places = json.loads(on_board(board, "doctor", "--json", cwd=tmp_path).stdout)["places"]
    assert all(Path(place).is_relative_to(board.parent) for place in places.values())


@pytest.mark.slow
def test_board_validates_and_infers_without_torch(board: Path, tmp_path: Path, tiny_run: TinyRun) -> None:
    for name in ("onnx-w8a8_dynamic", "teacher-onnx-fp32"):
        shutil.copytree(tiny_run.folder / name, tmp_path / name)
    done = on_board(board, "validate", "onnx-w8a8_dynamic", "--budget", "accuracy_drop=0.3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert on_board(board, "infer", "onnx-w8a8_dynamic", "a text", cwd=tmp_path).returncode == 0
    listed = subprocess.run([str(board / "python"), "-m", "pip", "list"], capture_output=True, text=True).stdout
    assert "torch" not in listed and "transformers" not in listed


@pytest.mark.slow
def test_missing_extra_gives_the_install_command(board: Path, tmp_path: Path, tiny_run: TinyRun) -> None:
    tflite = on_board(board, "infer", tiny_run.folder / "tflite-fp32", "a text", cwd=tmp_path)
    assert tflite.returncode == 4
    assert "pip install 'edgetf[litert]'" in tflite.stderr
    compress = on_board(
        board, "compress", f"recipe={tiny_run.recipe}", "--out", tmp_path / "run", "--fresh", cwd=tmp_path
    )
    assert compress.returncode == 4
    assert "pip install 'edgetf[compress,tflite]'" in compress.stderr
    assert "Traceback" not in compress.stderr + tflite.stderr


def test_a_device_says_how_it_runs_each_scheme(cli: Cli) -> None:
    host, thor = (json.loads(cli("devices", name, "--json").stdout)["schemes"] for name in ("host", "jetson_thor"))
    assert host["onnx"]["fp8_e4m3"] == "simulated" and "fp8_e4m3" not in host["tflite"]
    assert thor == {"onnx": {"fp32": "runs", "fp16": "runs", "w8a8": "runs", "fp8_e4m3": "runs"}}
