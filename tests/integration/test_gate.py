"""The gate as a CI sees it: exit codes, JUnit, GitHub's files, and a written workflow whose steps are run for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from conftest import Cli, TinyRun, environment

from edgetf.ci.workflows import Project, workflow

VARIANT = "onnx-w8a8_dynamic"
AWAY = ("--device", "raspberry_pi_4")


@pytest.fixture
def alone(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A variant whose reference is not there, so that a drop cannot be measured."""
    return Path(shutil.copytree(tiny_run.folder / VARIANT, tmp_path / VARIANT))


def outcomes(path: Path) -> dict[str, str]:
    """What became of every test case of a JUnit file."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {
        f"{case.get('classname', '').split('.')[-1]}.{case.get('name')}": next(
            (child.tag for child in case if child.tag != "system-out"), "passed"
        )
        for case in cases
    }


def test_a_missed_bound_is_exit_code_1_with_or_without_measuring_everything(cli: Cli, tiny_run: TinyRun) -> None:
    words = ["validate", tiny_run.folder / VARIANT, "--budget", "size_mib=0.000001"]
    assert cli(*words).returncode == 1
    assert cli(*words, "--require-measured").returncode == 1


def test_nothing_measured_is_exit_code_4_or_1_where_it_is_required(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    junit = tmp_path / "out.xml"
    words = ["validate", tiny_run.folder / VARIANT, *AWAY, "--budget", "size_mib=99", "--junit", junit]
    assert cli(*words).returncode == 4
    assert set(outcomes(junit).values()) == {"skipped"}
    done = cli(*words, "--require-measured")
    assert done.returncode == 1
    assert set(outcomes(junit).values()) == {"failure"}
    assert "--require-measured: onnx-w8a8_dynamic on raspberry_pi_4: not measured: " in done.stderr


def test_a_bound_that_was_not_measured_is_skipped_or_fails_where_it_is_required(
    cli: Cli, alone: Path, tmp_path: Path
) -> None:
    junit = tmp_path / "out.xml"
    words = ["validate", alone, "--budget", "accuracy_drop=0.3", "--budget", "size_mib=99", "--junit", junit, "--json"]
    done = cli(*words)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "not_measured")
    assert outcomes(junit) == {"host.correct": "passed", "host.accuracy_drop": "skipped", "host.size_mib": "passed"}
    done = cli(*words, "--require-measured")
    assert (done.returncode, json.loads(done.stdout)["require_measured"]) == (1, True)
    assert outcomes(junit)["host.accuracy_drop"] == "failure"
    assert "accuracy_drop: not measured (" in done.stderr


def test_a_device_out_of_reach_does_not_take_the_reports_along(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    junit = tmp_path / "out.xml"
    done = cli("validate", tiny_run.folder / VARIANT, *AWAY, "--device", "host", "--junit", junit, "--json")
    assert done.returncode == 0, done.stderr
    assert outcomes(junit) == {"raspberry_pi_4.correct": "skipped", "host.correct": "passed"}
    assert [row["how"] for row in json.loads(done.stdout)["devices"]] == ["not_measured", "measured"]


def test_a_device_that_fails_while_it_is_asked_is_exit_code_4_and_leaves_its_reports(
    cli: Cli, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETF_TFLITE_RUNTIME_PYTHON", str(tmp_path / "no-python"))
    junit = tmp_path / "out.xml"
    words = ["validate", tiny_run.folder / "tflite-fp32", "--device", "host_tflite_runtime", "--junit", junit]
    done = cli(*words)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "no-python" in done.stdout
    assert outcomes(junit) == {"host_tflite_runtime.correct": "skipped"}
    assert cli(*words, "--require-measured").returncode == 1
    assert cli(*words, "--device", "host").returncode == 0
    assert outcomes(junit) == {"host_tflite_runtime.correct": "skipped", "host.correct": "passed"}


def test_a_document_lists_every_check(cli: Cli, tiny_run: TinyRun) -> None:
    budget = ["--budget", "speedup=0.01", "--budget", "latency_p99_ms=10000", "--budget", "accuracy=0.1"]
    done = cli("validate", tiny_run.folder / VARIANT, *budget, "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)["devices"][0]
    assert [check["key"] for check in row["checks"]] == ["speedup", "latency_p99_ms", "accuracy"]
    for check in row["checks"]:
        assert set(check) == {"key", "limit", "value", "verdict", "why", "noise"}
    *timed, strict = row["checks"]
    assert (strict["verdict"], strict["noise"]) == ("pass", None)
    for check in timed:
        if row["trusted"]:
            assert (check["verdict"], check["noise"]["within"]) == ("pass", False)
        else:  # on a machine that is at work
            assert (check["verdict"], len(row["retries"])) == ("not_measured", 1)
            assert row["doubts"][0] in check["why"]


def test_a_report_of_a_run_can_require_that_all_was_measured(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    assert cli("report", tiny_run.folder, "--require-measured").returncode == 0
    run = shutil.copytree(tiny_run.folder, tmp_path / "run")
    record = json.loads((run / "report.json").read_text())
    row = record["variants"][0]["devices"][0]
    row |= {"device": "board", "how": "not_measured", "verdict": "not_measured", "why": ["not measured: away"]}
    (run / "report.json").write_text(json.dumps(record))
    assert cli("report", run).returncode == 0
    done = cli("report", run, "--require-measured")
    assert done.returncode == 1
    assert "--require-measured: onnx-fp32 on board: not measured: away" in done.stderr


def test_compress_can_require_that_all_was_measured(cli: Cli, tiny_run: TinyRun, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run.folder, tmp_path / "run")
    words = [f"recipe={tiny_run.recipe}", 'validation.devices=["host","raspberry_pi_4"]', "--out", run]
    assert cli("compress", *words).returncode == 0
    done = cli("compress", *words, "--require-measured")
    assert done.returncode == 1
    assert "on raspberry_pi_4: not measured: " in done.stderr


def test_a_recipes_bounds_on_time_are_timed_twice_where_that_is_needed(
    cli: Cli, tiny_run: TinyRun, tmp_path: Path
) -> None:
    """Fewer than 100 samples have no 99th percentile. Nothing but the measurement is made again."""
    run = shutil.copytree(tiny_run.folder, tmp_path / "run")
    words = [f"recipe={tiny_run.recipe}", "budget.latency_p99_ms=10000", "--out", run, "--json"]
    done = cli("compress", *words)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert all(stage["cached"] for stage in record["stages"])
    for variant in record["variants"]:
        (row,) = variant["devices"]
        assert len(row["retries"]) <= 1
        enough = row["n"] >= 100  # unless the second run was in doubt and the first was not
        assert row["verdict"] == ("pass" if row["trusted"] and enough else "not_measured")
    again = cli("compress", *words)
    assert "onnx-fp32: reused" in again.stderr


def test_github_sees_errors_where_a_bound_is_missed(
    cli: Cli, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    words = ["--budget", "size_mib=0.000001", "--github-summary", "--github-annotations"]
    done = cli("validate", tiny_run.folder / VARIANT, *words)
    assert done.returncode == 1
    assert "::error title=onnx-w8a8_dynamic on host::size_mib: " in done.stdout
    assert (tmp_path / "summary.md").read_text().startswith("## ❌ edgetf onnx-w8a8_dynamic: fail\n")
    assert cli("validate", tiny_run.folder / VARIANT, "--github-annotations", "--json").returncode == 2


@pytest.mark.parametrize(("bound", "code"), [("accuracy_drop=0.3", 0), ("size_mib=0.000001", 1)])
def test_the_steps_of_a_written_workflow_run(
    tiny_run: TinyRun, cache: Path, tmp_path: Path, bound: str, code: int
) -> None:
    """All but the installation: what it would install is here."""
    tree = yaml.safe_load(workflow("hosted", Project(str(tiny_run.recipe), VARIANT)))
    shutil.copytree(tiny_run.folder, tmp_path / "runs" / "ci")  # as a cache of an earlier job
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "edgetf").write_text(f'#!/bin/sh\nexec {sys.executable} -m edgetf "$@"\n')
    (programs / "edgetf").chmod(0o755)
    env = {**environment(cache), **tree["env"], "BUDGET": f"--budget {bound}",
           "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "PATH": f"{programs}:{os.environ['PATH']}",
           "PYTHONPATH": os.pathsep.join(sys.path)}  # fmt: skip
    steps = {step["name"]: step["run"] for step in tree["jobs"]["gate"]["steps"] if "run" in step}
    assert list(steps) == ["Install", "Compress", "Gate"]
    codes = []
    for name in ("Compress", "Gate"):
        done = subprocess.run(["bash", "-e", "-c", steps[name]], cwd=tmp_path, env=env, capture_output=True, text=True)
        codes.append(done.returncode)
    assert codes == [0, code], done.stderr
    assert (tmp_path / "summary.md").read_text().startswith("## ")
    assert (tmp_path / "edgetf.md").is_file()
    assert outcomes(tmp_path / "edgetf.xml")[f"host.{bound.split('=')[0]}"] == ("passed", "failure")[code]
