"""The main job through the CLI: a real (small) teacher in, validated INT8 files out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli, Tiny, TinyRun, environment

from edgetf.core.artifact import load, open_verified
from edgetf.pipeline.run import artifacts_in

VARIANTS = ["onnx-fp32", "onnx-w8a8_dynamic", "tflite-fp32", "tflite-w8a8_dynamic"]


def test_report_keeps_the_contract(tiny_run: TinyRun) -> None:
    report = tiny_run.report
    wanted = {"schema", "recipe", "run", "seconds", "made", "verdict", "budget", "teacher", "stages", "variants"}
    assert wanted <= set(report)
    assert report["schema"] == 1
    assert {"edgetf", "commit", "versions"} <= set(report["made"])
    assert [stage["name"] for stage in report["stages"]] == ["finetune", "distill", "prune", "export", "quantize"]
    for stage in report["stages"]:
        assert {"name", "seconds", "cached", "params", "size_bytes", "metrics"} <= set(stage)
    assert sorted(variant["name"] for variant in report["variants"]) == VARIANTS
    device_keys = {
        "device", "how", "backend", "threads", "seq_len", "latency_p50_ms", "latency_p90_ms", "n", "samples_ms",
        "reference", "speedup", "peak_rss_bytes", "instructions", "verdict", "why",
    }  # fmt: skip
    for variant in report["variants"]:
        row = variant["devices"][0]
        assert device_keys <= set(row)
        assert row["n"] == len(row["samples_ms"]) >= 30
        assert row["reference"]["name"] == "teacher-onnx-fp32"
        assert row["speedup"] == pytest.approx(row["reference"]["latency_p50_ms"] / row["latency_p50_ms"], rel=1e-2)
        assert row["backend"]["ran"]
        names = {metric["name"] for metric in variant["metrics"]}
        assert {"accuracy", "accuracy_drop", "agreement"} <= names
        assert all(metric["n"] == 72 for metric in variant["metrics"])


def test_report_is_also_in_the_run(tiny_run: TinyRun) -> None:
    assert json.loads((tiny_run.folder / "report.json").read_text()) == tiny_run.report


def test_every_artifact_is_whole(tiny_run: TinyRun) -> None:
    artifacts = artifacts_in(tiny_run.folder)
    assert len(artifacts) == 16
    for artifact in artifacts:
        open_verified(artifact.path)
    assert not list(tiny_run.folder.glob("*.partial"))


def test_the_teachers_file_is_plain_and_the_variants_are_rewritten(tiny_run: TinyRun) -> None:
    """What the speed-up is against is what torch writes; what ships, and what a stage is measured on, is rewritten."""
    import onnx

    def operators(name: str) -> list[str]:
        return [node.op_type for node in onnx.load(str(tiny_run.folder / name / "model.onnx")).graph.node]

    for name in ("1-teacher-onnx", "teacher-onnx-fp32"):
        assert "Sum" not in operators(name), name
        assert operators(name).count("LayerNormalization") == 5, name
        assert rows_of_softmax(tiny_run.folder / name / "model.onnx") == [9, 9], name
    for name in ("2-distill-onnx", "distill-onnx-fp32", "4-export-onnx", "onnx-fp32", "onnx-w8a8_dynamic"):
        assert operators(name).count("Sum") == operators(name).count("LayerNormalization") == 3, name
        assert rows_of_softmax(tiny_run.folder / name / "model.onnx") == [1], name


def rows_of_softmax(path: Path) -> list[int]:
    """For how many of 9 tokens the attention of each layer is computed."""
    import numpy as np
    import onnx
    from onnxruntime import InferenceSession

    model = onnx.load(str(path))
    names = [node.output[0] for node in model.graph.node if node.op_type == "Softmax"]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {item.name: np.ones((2, 9), dtype=np.int64) for item in session.get_inputs()}
    return [array.shape[-2] for array in session.run(names, given)]


def test_teacher_learned_and_student_followed(tiny_run: TinyRun) -> None:
    accuracy = {stage["name"]: stage["metrics"][0]["value"] for stage in tiny_run.report["stages"]}
    assert accuracy["finetune"] > 0.8
    assert accuracy["quantize"] > 0.7


def test_each_stage_shrinks_the_model(tiny_run: TinyRun) -> None:
    params = [stage["params"] for stage in tiny_run.report["stages"]]
    assert params[0] > params[1] > params[2] == params[3] == params[4]
    size = {variant["name"]: variant["size_bytes"] for variant in tiny_run.report["variants"]}
    assert size["onnx-w8a8_dynamic"] < size["onnx-fp32"]
    assert size["tflite-w8a8_dynamic"] < size["tflite-fp32"]


def test_tflite_has_a_signature_per_length(tiny_run: TinyRun) -> None:
    details = load(tiny_run.folder / "tflite-fp32").spec.details
    assert details["lengths"] == [8, 16]
    assert details["input_dtype"] == "int32"


def test_second_run_reuses_every_stage(cli: Cli, tiny_run: TinyRun) -> None:
    started = time.monotonic()
    done = cli("compress", f"recipe={tiny_run.recipe}", "--out", tiny_run.folder, "--json")
    assert done.returncode == 0
    assert time.monotonic() - started < 15
    report = json.loads(done.stdout)
    assert all(stage["cached"] for stage in report["stages"])
    assert report["variants"] == tiny_run.report["variants"]


def test_another_recipe_shares_the_prefix(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    words = ["compress", f"recipe={tiny_run.recipe}", 'export.formats=["onnx"]', "prune=null", "quantize=null"]
    done = cli(*words, "--out", tmp_path / "other", "--json")
    assert done.returncode == 0, done.stderr
    stages = {stage["name"]: stage["cached"] for stage in json.loads(done.stdout)["stages"]}
    assert stages["finetune"] and stages["distill"]
    open_verified(tmp_path / "other" / "2-distill")


def test_a_damaged_artifact_is_made_again(cli: Cli, tiny_run: TinyRun, tmp_path: Path, tiny: Tiny) -> None:
    words = ["compress", f"recipe={tiny_run.recipe}", 'export.formats=["onnx"]', "--out", tmp_path / "run", "--json"]
    assert cli(*words).returncode == 0
    damaged = tmp_path / "run" / "onnx-w8a8_dynamic" / "validation.json"
    damaged.unlink()
    damaged.write_text("[]")
    assert cli(*words).returncode == 0
    open_verified(tmp_path / "run" / "onnx-w8a8_dynamic")


def slow_words(tiny: Tiny, out: Path) -> list[str]:
    """A run whose distillation takes long enough to be killed in."""
    words = ["compress", f"recipe={tiny.recipe}", "distill.epochs=150", "distill.checkpoint_seconds=0.2",
             "distill.learning_rate=1e-4", "export.formats=[\"onnx\"]", "prune=null", "--out", str(out)]  # fmt: skip
    return [sys.executable, "-m", "edgetf", *words]


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def test_kill_9_during_distill_resumes(cli: Cli, cache: Path, tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(slow_words(tiny, out), env=environment(cache), stderr=subprocess.DEVNULL, text=True)
    wait_for(out / "2-distill.partial" / "checkpoint" / "state" / "progress.json", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "2-distill").exists()
    done = cli(*slow_words(tiny, out)[3:])
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stderr
    training = open_verified(out / "2-distill").spec.details["training"]
    assert training["resumed"] == 1
    assert len(training["history"]) == 150
    open_verified(out / "onnx-w8a8_dynamic")


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupt_is_130_and_says_how_to_go_on(cache: Path, tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [word.replace("1e-4", "2e-4") for word in slow_words(tiny, out)]
    # What a shell starts in the background ignores SIGINT, and so would all that these tests start.
    process = subprocess.Popen(
        words,
        env=environment(cache),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509
    )
    wait_for(out / "2-distill.partial" / "checkpoint" / "state" / "progress.json", process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; run the same command again" in stderr
    assert "Traceback" not in stderr
    assert not (out / "2-distill").exists()


def test_two_processes_do_not_share_a_run(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "run"
    out.mkdir()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = cli("compress", f"recipe={tiny.recipe}", "--out", out)
    assert done.returncode == 3
    assert "another edgetf is writing there" in done.stderr


def test_full_disk_leaves_nothing_that_looks_whole(cache: Path, tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [sys.executable, "-m", "edgetf", "compress", f"recipe={tiny.recipe}", "seed=7", "--out", str(out)]
    limited = f"ulimit -f 60; exec {' '.join(words)}"  # no file may grow beyond 60 KiB
    env = {name: value for name, value in environment(cache).items() if not name.startswith("COVERAGE")}
    done = subprocess.run(["bash", "-c", limited], env=env, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "the disk or its quota is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (out / "1-finetune").exists()
    for artifact in artifacts_in(out):
        open_verified(artifact.path)


def test_dry_run_starts_nothing(cli: Cli, tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = cli("compress", f"recipe={tiny.recipe}", "--dry-run", "--json", "--out", out)
    assert done.returncode == 0
    plan = json.loads(done.stdout)
    assert plan["variants"] == VARIANTS
    assert plan["relative_latency"]["how"] == "predicted"
    assert 0 < plan["relative_latency"]["value"] < 1
    assert {step["name"] for step in plan["steps"]} >= {"finetune", "distill", "prune", "export", "quantize"}
    assert not out.exists()


def test_dry_run_is_readable(cli: Cli, tiny: Tiny) -> None:
    done = cli("compress", f"recipe={tiny.recipe}", "--dry-run")
    assert done.returncode == 0
    assert "dry run: nothing was started" in done.stdout
    assert "(predicted)" in done.stdout


def test_a_teacher_with_a_head_needs_no_finetune(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    words = ["finetune=null", f"teacher.source={tiny_run.folder / '1-finetune'}", 'export.formats=["onnx"]']
    done = cli("compress", f"recipe={tiny_run.recipe}", *words, "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [stage["name"] for stage in report["stages"]] == ["distill", "prune", "export", "quantize"]
    assert report["teacher"]["metrics"][0]["value"] == tiny_run.report["teacher"]["metrics"][0]["value"]


def test_a_missed_budget_is_exit_code_1(cli: Cli, tiny_run: TinyRun) -> None:
    words = ["compress", f"recipe={tiny_run.recipe}", 'budget={"size_ratio": 1000}', "--out", tiny_run.folder]
    done = cli(*words)
    assert done.returncode == 1, done.stderr
    assert "fail" in done.stdout
    assert cli("compress", f"recipe={tiny_run.recipe}", "--out", tiny_run.folder).returncode == 0


def test_terminal_shows_bars(tiny_run: TinyRun, cache: Path, tmp_path: Path) -> None:
    """On a terminal there is a bar with the time left; the step's line stays."""
    import pty

    master, slave = pty.openpty()
    words = ["compress", f"recipe={tiny_run.recipe}", "--fresh", "distill=null", "prune=null", "quantize=null",
             'export.formats=["onnx"]', "--out", str(tmp_path / "run")]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetf", *words], env={**environment(cache), "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.DEVNULL, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:
            break
        if not block:
            break
        seen += block
    os.close(master)
    assert process.wait() == 0, seen.decode(errors="replace")
    text = seen.decode(errors="replace")
    assert "%" in text and "left" in text
    assert "1-finetune: done in" in text
