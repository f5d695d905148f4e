"""A bundle for a Jetson calls trtexec with the flags of its scheme, for old and new TensorRT, or refuses in words.

There is no TensorRT here: a stand-in for trtexec writes down how it is called, and has the options of some version.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from exported import exported

from edgetf.bundle import jetson
from edgetf.cli import app
from edgetf.core.artifact import Artifact, open_verified
from edgetf.core.device import load_device
from edgetf.core.errors import ConfigError, ParityError

HELP = {8: "--fp16 --int8 --noTF32", 10: "--fp16 --int8 --fp8 --stronglyTyped --noTF32", 11: "--noTF32"}


@pytest.fixture(scope="module")
def plain() -> Artifact:
    return exported("bert").artifact


def with_scheme(artifact: Artifact, scheme: str) -> Artifact:
    """The artifact with another scheme in its manifest."""
    from dataclasses import replace

    return replace(artifact, manifest=replace(artifact.manifest, spec=replace(artifact.spec, scheme=scheme)))


def trtexec(folder: Path, version: int) -> Path:
    """A program that lists the options of a version, or writes down its arguments."""
    path = folder / "trtexec"
    path.write_text(f'#!/bin/sh\n[ "$1" = --help ] && echo "{HELP[version]}" && exit 1\nprintf "%s\\n" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def called(folder: Path, program: Path, *more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TRTEXEC": str(program)}
    return subprocess.run([str(folder / jetson.SCRIPT), *more], capture_output=True, text=True, env=env)


@pytest.mark.parametrize(
    ("scheme", "version", "flags"),
    [("fp32", 8, ["--noTF32"]), ("fp32", 11, ["--noTF32"]), ("fp16", 10, ["--fp16"]), ("fp16", 11, [])],
)
def test_the_flags_are_those_of_the_scheme(
    plain: Artifact, tmp_path: Path, scheme: str, version: int, flags: list[str]
) -> None:
    made = jetson.make(with_scheme(plain, scheme), load_device("jetson_orin_nano"), tmp_path / "bundle", 32)
    done = called(made, trtexec(tmp_path, version), "--verbose")
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert [word for word in words if word in ("--fp16", "--int8", "--fp8", "--noTF32")] == flags
    longest = plain.spec.details["max_length"]
    assert "--optShapes=" + ",".join(f"{name}:1x32" for name in plain.spec.details["inputs"]) in words
    assert "--maxShapes=" + ",".join(f"{name}:1x{longest}" for name in plain.spec.details["inputs"]) in words
    assert words[-1] == "--verbose"


def test_an_old_tensorrt_is_told_apart_from_a_new_one(plain: Artifact, tmp_path: Path) -> None:
    """8 has no --fp8 and 11 has none either, for opposite reasons."""
    made = jetson.make(with_scheme(plain, "fp8_e4m3"), load_device("jetson_thor"), tmp_path / "bundle")
    old = called(made, trtexec(tmp_path, 8))
    assert (old.returncode, old.stdout) == (4, "")
    assert "too old for --fp8" in old.stderr
    assert "--fp8" in called(made, trtexec(tmp_path, 10)).stdout
    new = called(made, trtexec(tmp_path, 11))
    assert new.returncode == 0
    assert "--fp8" not in new.stdout


def test_without_trtexec_it_says_where_to_get_it(plain: Artifact, tmp_path: Path) -> None:
    made = jetson.make(plain, load_device("jetson_orin_nano"), tmp_path / "bundle")
    done = called(made, tmp_path / "nowhere")
    assert done.returncode == 4
    assert "nowhere: not found; install TensorRT" in done.stderr


@pytest.mark.parametrize(
    ("scheme", "device", "message"),
    [
        (
            "w8a8_dynamic",
            "jetson_orin_nano",
            "w8a8_dynamic is not run by TensorRT; allowed: fp32, fp16, w8a8, fp8_e4m3",
        ),
        ("fp8_e4m3", "jetson_orin_nano", "fp8_e4m3 needs compute capability 8.9, this GPU has 8.7; take fp16"),
    ],
)
def test_what_the_gpu_does_not_run_is_refused(plain: Artifact, scheme: str, device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        jetson.script(with_scheme(plain, scheme), load_device(device))


@pytest.mark.parametrize(("activations", "fits"), [("symmetric", True), ("signed", False), ("unsigned", False)])
def test_only_symmetric_activations_go_to_tensorrt(tmp_path: Path, activations: Any, fits: bool) -> None:
    import shutil
    from dataclasses import replace

    from exported import quantized

    from edgetf.formats.quantization import Quantization

    source = exported("bert").artifact
    folder = shutil.copytree(source.path, tmp_path / "w8a8")
    shutil.copyfile(quantized("bert", Quantization("w8a8", activations=activations)), folder / source.spec.model_file)
    artifact = with_scheme(replace(source, path=folder), "w8a8")
    if fits:
        assert "--int8 --fp16" in jetson.script(artifact, load_device("jetson_orin_nano"))
    else:
        with pytest.raises(ParityError, match="activations are unsigned or not around 0"):
            jetson.script(artifact, load_device("jetson_orin_nano"))


def test_the_bundle_is_the_artifact_and_the_script(plain: Artifact, tmp_path: Path) -> None:
    made = jetson.make(plain, load_device("jetson_orin_nano"), tmp_path / "bundle")
    assert {path.name for path in made.iterdir()} == {path.name for path in plain.path.iterdir()} | {jetson.SCRIPT}
    with pytest.raises(ConfigError, match="is there already"):
        jetson.make(plain, load_device("jetson_orin_nano"), tmp_path / "bundle")


def test_the_command_makes_it(plain: Artifact, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    words = ["bundle", str(plain.path), "--device", "jetson_orin_nano", "--out", str(tmp_path / "new"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert Path(json.loads(done.stdout)["run"]).is_file()
    assert open_verified(plain.path)


def test_another_device_has_nothing_to_bundle(plain: Artifact) -> None:
    from edgetf.commands.bundle import bundle_command

    with pytest.raises(ConfigError, match="raspberry_pi_5: nothing to bundle; allowed: one with TensorRT"):
        bundle_command(plain.path, "raspberry_pi_5", None, None, False)
