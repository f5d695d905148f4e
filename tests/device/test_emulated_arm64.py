"""Emulated arm64: the answers of this machine, the work in instructions, and no milliseconds."""

from __future__ import annotations

import json
import resource
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cli, TinyRun
from emulation import set_up

from edgetf.core.artifact import open_verified
from edgetf.core.device import load_device
from edgetf.core.errors import ArtifactError, ConfigError, DeviceError
from edgetf.core.places import shipped
from edgetf.targets.arm64_root import MANIFEST, Root
from edgetf.targets.emulated import EmulatedArm64, counted
from edgetf.targets.local import ask_runner
from edgetf.validation.golden import deployable_model

pytestmark = pytest.mark.slow

DEVICES = ("emulated_a53", "emulated_a72", "emulated_a76")
VARIANTS = ("onnx-fp32", "onnx-w8a8_dynamic", "tflite-fp32", "tflite-w8a8_dynamic")
JOB_SECONDS = 300


@pytest.fixture(scope="module")
def root(cli: Cli, cache: Path) -> Root:
    return set_up(cli, cache)


@dataclass(frozen=True)
class Job:
    """What validating every variant on every processor said, and the processor time that it took with the set-up.

    That is about the time by the clock on a machine that does nothing else, and does not depend on other load.
    """

    rows: dict[tuple[str, str], dict[str, Any]]
    seconds: float


def children_seconds() -> float:
    """Processor time of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def job(cli: Cli, cache: Path, tiny_run: TinyRun) -> Job:
    before = children_seconds()
    set_up(cli, cache)
    rows = {}
    for variant in VARIANTS:
        words = [word for device in DEVICES for word in ("--device", device)]
        done = cli("validate", tiny_run.folder / variant, *words, "--budget", "size_mib=1", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        rows |= {(variant, row["device"]): row for row in json.loads(done.stdout)["devices"]}
    return Job(rows, children_seconds() - before)


def test_the_whole_job_takes_less_than_five_minutes(job: Job) -> None:
    assert len(job.rows) == len(VARIANTS) * len(DEVICES)
    assert job.seconds <= JOB_SECONDS


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_are_those_of_this_machine(job: Job, variant: str, device: str) -> None:
    row = job.rows[variant, device]
    assert row["how"] == "emulated" and row["verdict"] == "pass" and row["problems"] == []
    assert row["machine"]["architecture"] == "aarch64"
    assert row["parity"]["n"] >= 50
    if variant.endswith("fp32"):
        assert row["parity"]["max_abs_difference"] <= 1e-5
    else:
        assert row["parity"]["min_cosine"] >= 0.99
        assert row["parity"]["agreement"] >= 0.99
    assert {metric["n"] for metric in row["metrics"] if metric["name"] == "accuracy"} == {64}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_kernels_of_the_processor_are_counted(job: Job, variant: str, device: str) -> None:
    row = job.rows[variant, device]
    classes = row["instructions_by_class"]
    assert sum(classes.values()) == pytest.approx(row["instructions"], rel=0.01)
    assert row["instructions_ratio"] == pytest.approx(row["instructions"] / row["reference_instructions"], abs=1e-3)
    if variant.endswith("fp32"):
        assert classes["fmla"] and not classes["mlal"] and not classes["dot"] and not classes["mmla"]
    elif device == "emulated_a76":
        assert classes["dot"] and not classes["mmla"]  # it has the dot product …
    else:
        assert classes["mlal"] and not classes["dot"]  # … which these two have not


def test_no_milliseconds_and_no_memory(job: Job) -> None:
    for row in job.rows.values():
        measured = ("latency_p50_ms", "latency_p90_ms", "speedup", "load_ms", "first_ms", "peak_rss_bytes", "reference")
        assert [row[name] for name in measured] == [None] * len(measured)
        assert row["samples_ms"] == []


def test_a_budget_of_milliseconds_is_not_measured(cli: Cli, root: Root, tiny_run: TinyRun) -> None:
    words = ["--device", "emulated_a72", "--budget", "latency_p50_ms=1000", "--seq-len", "8"]
    done = cli("validate", tiny_run.folder / "onnx-w8a8_dynamic", *words)
    assert "latency_p50_ms: not measured (an emulated processor has no milliseconds" in done.stdout
    assert "million instructions an inference of 8 tokens" in done.stdout


def count_request(folder: Path, tokens: int = 16) -> dict[str, Any]:
    model = deployable_model(open_verified(folder)).to_json()
    return {"do": "count", "models": [model], "threads": 1, "runs": 3, "seq_len": tokens, "text": "rain and snow today"}


def test_counts_repeat_within_one_percent(root: Root, tiny_run: TinyRun) -> None:
    emulator = EmulatedArm64(load_device("emulated_a72"), root)
    found = [emulator.ask(count_request(tiny_run.folder / "onnx-w8a8_dynamic"))["instructions"][0] for _ in range(2)]
    assert found[0]["total"] == pytest.approx(found[1]["total"], rel=0.01)
    assert found[0]["by_class"]["mlal"] == found[1]["by_class"]["mlal"] > 0


def test_more_tokens_are_more_instructions(root: Root, tiny_run: TinyRun) -> None:
    emulator = EmulatedArm64(load_device("emulated_a76"), root)
    folder = tiny_run.folder / "teacher-onnx-fp32"
    short, long = (emulator.ask(count_request(folder, tokens))["instructions"][0] for tokens in (16, 64))
    assert 3.5 < long["by_class"]["fmla"] / short["by_class"]["fmla"] < 8  # four times, and attention the square of it


def test_matrix_products_of_bytes_are_run_where_the_processor_has_them(root: Root, tiny_run: TinyRun) -> None:
    emulator = EmulatedArm64(load_device("emulated_i8mm"), root)
    classes = emulator.ask(count_request(tiny_run.folder / "onnx-w8a8_dynamic"))["instructions"][0]["by_class"]
    assert classes["mmla"] > 0


def test_counting_and_timing_are_refused_where_they_mean_nothing(cli: Cli, root: Root, tiny_run: TinyRun) -> None:
    folder = tiny_run.folder / "onnx-fp32"
    with pytest.raises(DeviceError, match="counted by an emulator only"):
        ask_runner(count_request(folder))
    request = {"do": "sustain", "model": deployable_model(open_verified(folder)).to_json(), "threads": 1}
    with pytest.raises(DeviceError, match="no milliseconds"):
        EmulatedArm64(load_device("emulated_a72"), root).ask(request)
    done = cli("bench", folder, "--device", "emulated_a72")
    assert (done.returncode, done.stdout) == (4, "")
    assert "gives no milliseconds" in done.stderr


def test_a_runtime_that_is_not_there_is_named(root: Root, tiny_run: TinyRun) -> None:
    request = count_request(tiny_run.folder / "tflite-fp32")
    request["models"][0]["backend"] = "tflite_runtime"
    with pytest.raises(DeviceError, match="got tflite_runtime, allowed: ort, litert"):
        EmulatedArm64(load_device("emulated_a72"), root).ask(request)


def profile_with(folder: Path, name: str, **emulated: Any) -> Path:
    """A profile of another emulated processor."""
    tree = yaml.safe_load((shipped("devices") / "emulated_i8mm.yaml").read_text())
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**tree, "name": name, "emulated": {**tree["emulated"], **emulated}}))
    return path


def test_an_emulator_that_multiplies_wrongly_measures_nothing(
    cli: Cli, root: Root, tiny_run: TinyRun, tmp_path: Path
) -> None:
    """SME of QEMU 7.2 makes noise of INT8 products, without a word."""
    packages = json.loads((root.folder / MANIFEST).read_text())["packages"]
    if not packages["qemu-user"].startswith("1:7.2"):
        pytest.skip(f"qemu-user {packages['qemu-user']}: only 7.2 is known to multiply wrongly")
    path = profile_with(tmp_path, "broken", cpu="max")
    done = cli("validate", tiny_run.folder / "tflite-w8a8_dynamic", "--device", path, "--json")
    assert done.returncode == 4, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)["devices"]
    assert (row["how"], row["verdict"]) == ("not_measured", "not_measured") and row["instructions"] is None
    assert "multiplies wrongly under -cpu max" in row["why"][0] and "nothing is measured" in row["why"][0]


def test_a_planted_wrong_product_is_found(root: Root, tmp_path: Path) -> None:
    """An emulator that gives one wrong answer among right ones is believed in nothing."""
    for name in ("root", "site", "count.so"):
        (tmp_path / name).symlink_to(root.folder / name)
    (tmp_path / "host/usr/bin").mkdir(parents=True)
    wrong = tmp_path / "host/usr/bin/qemu-aarch64"
    wrong.write_text(f'#!/bin/sh\n{root.qemu} "$@" | sed -u \'s/"int8.onnx": 0.0/"int8.onnx": 0.01/\'\n')
    wrong.chmod(0o755)
    (tmp_path / "host/usr/lib").symlink_to(root.folder / "host/usr/lib")
    emulator = EmulatedArm64(load_device("emulated_a72"), replace(root, folder=tmp_path))
    with pytest.raises(DeviceError, match=r"multiplies wrongly under -cpu cortex-a72 \(int8.onnx by 0.01"):
        emulator.check()
    with pytest.raises(DeviceError, match="multiplies wrongly"):  # and it is not forgotten
        emulator.check()


def test_a_processor_that_qemu_does_not_know_is_one_message(root: Root, tmp_path: Path) -> None:
    path = profile_with(tmp_path, "unknown", cpu="cortex-z1")
    with pytest.raises(DeviceError, match="cortex-z1"):
        EmulatedArm64(load_device(str(path)), root).check()


def test_without_the_set_up_the_command_is_named(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETF_CACHE", str(tmp_path))
        with pytest.raises(DeviceError, match="run: edgetf targets setup emulated-arm64"):
            EmulatedArm64(load_device("emulated_a72")).check()


def test_another_target_is_no_emulated_processor(root: Root) -> None:
    with pytest.raises(ConfigError, match="allowed: emulated"):
        EmulatedArm64(load_device("host"), root)


def test_marks_that_are_missing_are_an_error() -> None:
    with pytest.raises(ArtifactError, match="got 1 marks, allowed: 2"):
        counted({"marks": [{"mark": 0, "total": 1}]}, models=1, runs=1)


def test_set_up_is_listed_and_made_once(cli: Cli, root: Root) -> None:
    before = (root.folder / MANIFEST).stat().st_mtime_ns
    again = json.loads(cli("targets", "setup", "emulated-arm64", "--json").stdout)
    assert again["folder"] == str(root.folder) and again["versions"]["onnxruntime"]
    assert (root.folder / MANIFEST).stat().st_mtime_ns == before
    targets = {each["target"]: each for each in json.loads(cli("targets", "--json").stdout)["targets"]}
    assert targets["emulated-arm64"]["ready"] is True
    assert set(DEVICES) <= set(targets["emulated-arm64"]["devices"])
    assert not [path for path in root.folder.parent.iterdir() if path.suffix == ".partial"]
