"""Device profiles: every shipped one loads, and a wrong one is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetf.core.device import DeviceProfile, device_names, load_device
from edgetf.core.errors import ConfigError
from edgetf.core.support import SUPPORT

GOOD = """
name: board
description: a board
target: none
architecture: aarch64
runtimes: [ort]
"""


def profile(tmp_path: Path, text: str) -> str:
    path = tmp_path / "board.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", device_names())
def test_every_shipped_device_loads_under_its_own_name(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert all(len(fact.source) >= 3 for fact in device.facts.values())


def test_host_is_shipped_and_runs_every_variant() -> None:
    host = load_device("host")
    assert host.target == "local"
    for model_format in ("onnx", "tflite"):
        for scheme in ("fp32", "w8a8_dynamic"):
            assert host.refuses(model_format, scheme) is None


def test_the_old_runtime_is_right_only_with_a_scale_for_each_tensor() -> None:
    old = load_device("host_tflite_runtime")
    for scheme in ("w8a8_dynamic", "w8a8", "w8a16"):
        assert old.refuses("tflite", scheme, "per_tensor") is None
        wrong = f"tflite_runtime gives wrong answers for {scheme} per_channel; allowed: per_tensor"
        assert old.refuses("tflite", scheme, "per_channel") == wrong
    assert old.refuses("tflite", "w8", "per_channel") is None
    assert "w4 is not run by tflite_runtime" in str(old.refuses("tflite", "w4"))
    assert old.refuses("onnx", "fp32") == "needs ort or tensorrt, host_tflite_runtime has tflite_runtime"


def test_a_profile_loads_from_a_path(tmp_path: Path) -> None:
    device = load_device(profile(tmp_path, GOOD))
    assert (device.name, device.threads, device.runtimes) == ("board", 1, ("ort",))


def test_an_unknown_device_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"device hots: no such profile; did you mean host\?"):
        load_device("hots")


@pytest.mark.parametrize(
    "name", ["", "nowhere.yaml", "../host", "a/b", "x" * 300, "a\0b"], ids=lambda name: repr(name[:20])
)
def test_a_name_that_is_no_device_is_a_config_error(name: str) -> None:
    with pytest.raises(ConfigError, match="no such profile"):
        load_device(name)


@pytest.mark.parametrize("text", ["[", "a: b: c", "\x00", "x: 2001-99-99", "!!python/object:os.system x"], ids=repr)
def test_a_profile_that_is_not_yaml_is_a_config_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="board.yaml"):
        load_device(profile(tmp_path, text))


def test_a_profile_that_is_not_utf_8_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_bytes(GOOD.encode() + b"notes: [caf\xe9]\n")
    with pytest.raises(ConfigError, match="board.yaml"):
        load_device(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colour: red", "colour: not a field"),
        ("theads: 2", "theads: not a field; did you mean threads?"),
        ("threads: 0", "threads: got 0"),
        ("target: moon", "target: got 'moon', allowed: 'local', 'none', 'ssh', 'adb' or 'emulated'"),
        (
            "runtimes: [ort, tvm]",
            "runtimes.1: got 'tvm', allowed: 'ort', 'litert', 'tflite_runtime', 'tensorrt' or ",
        ),
        ("facts: {memory: {value: 1, unit: GiB}}", "facts.memory.source: missing"),
    ],
)
def test_a_profile_that_does_not_fit_is_a_config_error(tmp_path: Path, change: str, message: str) -> None:
    key = change.split(":")[0]
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith(f"{key}:")) + f"\n{change}\n"
    with pytest.raises(ConfigError) as caught:
        load_device(profile(tmp_path, text))
    assert message in str(caught.value)
    assert str(caught.value).startswith("board.yaml: ")


@pytest.mark.parametrize("text", ["", "3", "- a", "text"], ids=repr)
def test_a_profile_must_be_a_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="board.yaml"):
        load_device(profile(tmp_path, text))


def test_all_problems_of_a_profile_come_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_device(profile(tmp_path, GOOD + "colour: red\nthreads: none\n"))
    assert len(caught.value.problems) == 2


def test_a_device_refuses_a_format_whose_runtime_it_lacks() -> None:
    device = DeviceProfile(name="b", description="", target="none", architecture="aarch64", runtimes=("ort",))
    assert device.refuses("onnx", "fp32") is None
    assert device.refuses("tflite", "fp32") == "needs litert or tflite_runtime, b has ort"


def test_a_device_refuses_a_scheme_that_its_runtime_does_not_run() -> None:
    refusal = load_device("host").refuses("tflite", "fp8_e4m3")
    assert refusal is not None
    assert refusal.startswith("fp8_e4m3 is not run by litert; allowed: ")
    for scheme in SUPPORT["litert"]:
        assert scheme in refusal


def test_a_profile_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_device("host").threads = 2  # type: ignore[misc]
