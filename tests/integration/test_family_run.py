"""One run that emits a family: several targets, each with everything downstream, each reused by itself."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, Tiny

from edgetf.core.artifact import load, open_verified

pytestmark = pytest.mark.slow
FAST = {"batch_size": 16, "learning_rate": 0.003, "threads": 1}
KINDS = ("onnx-fp32", "onnx-w8a8_dynamic")


@dataclass(frozen=True)
class FamilyRun:
    """A finished run, and the words that made it."""

    folder: Path
    words: list[str]
    report: dict[str, Any]


@pytest.fixture(scope="module")
def family(cli: Cli, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> FamilyRun:
    folder = tmp_path_factory.mktemp("family")
    recipe = tiny.with_(
        folder / "family.yaml",
        student={"architecture": "teacher", "num_hidden_layers": 2},
        stages=[
            {"stage": "finetune", "epochs": 8, **FAST},
            {"stage": "prune", "epochs": 1, **FAST, "round_to": 8, "target": {"params": [0.6, 0.3]}},
            {"stage": "export", "formats": ["onnx"]},
            {"stage": "quantize"},
        ],
        budget={"size_ratio": 1.1},
    )
    words = ["compress", f"recipe={recipe}", "--out", str(folder / "run"), "--json"]
    return FamilyRun(folder / "run", words, report_of(cli(*words)))


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def variants(*members: str) -> list[str]:
    return [f"{member}-{kind}" for member in members for kind in KINDS]


def test_every_member_has_its_stages_and_variants(family: FamilyRun) -> None:
    assert [(stage["name"], stage["member"]) for stage in family.report["stages"]] == [
        ("finetune", None),
        ("prune-0.6params", "0.6params"),
        ("prune-0.3params", "0.3params"),
        ("export-0.6params", "0.6params"),
        ("export-0.3params", "0.3params"),
        ("quantize-0.6params", "0.6params"),
        ("quantize-0.3params", "0.3params"),
    ]
    assert all(stage["latency_p50_ms"] for stage in family.report["stages"])
    found = family.report["variants"]
    assert {(variant["name"], variant["member"]) for variant in found} == {
        (name, name.partition("-")[0]) for name in variants("0.6params", "0.3params")
    }
    for variant in found:
        assert variant["path"] == str(family.folder / variant["name"])
        assert variant["devices"][0]["speedup"]


def test_every_artifact_is_whole_and_of_its_member(family: FamilyRun) -> None:
    made = ["2-prune-{}", "3-export-{}-onnx", "4-quantize-{}-onnx-w8a8_dynamic", "{}-onnx-fp32", "{}-onnx-w8a8_dynamic"]
    sizes = []
    for member in ("0.6params", "0.3params"):
        artifacts = [open_verified(family.folder / name.format(member)) for name in made]
        assert len({artifact.spec.params for artifact in artifacts}) == 1
        sizes.append(artifacts[0].spec.params or 0)
    assert sizes[0] > sizes[1]
    assert not list(family.folder.glob("*.partial"))


def test_each_goes_on_from_the_one_before(family: FamilyRun) -> None:
    teacher, large, small = (
        load(family.folder / name) for name in ("1-finetune", "2-prune-0.6params", "2-prune-0.3params")
    )
    assert large.manifest.parents == (teacher.digest, teacher.digest)  # what it is made from, and what it learns from
    assert small.manifest.parents == (large.digest, teacher.digest, teacher.digest)
    assert small.spec.details["before"] == large.spec.details["before"]


def test_the_run_says_how_each_member_did(family: FamilyRun) -> None:
    assert family.report["verdict"] == "pass"
    assert [(entry["name"], entry["target"], entry["verdict"]) for entry in family.report["family"]] == [
        ("0.6params", {"params": 0.6}, "pass"),
        ("0.3params", {"params": 0.3}, "pass"),
    ]
    assert all(entry["best"].startswith(entry["name"]) for entry in family.report["family"])


def test_a_second_run_reuses_everything(cli: Cli, family: FamilyRun) -> None:
    report = report_of(cli(*family.words))
    assert all(stage["cached"] for stage in report["stages"])
    assert report["variants"] == family.report["variants"]


def test_one_more_member_leaves_the_others_as_they_are(cli: Cli, family: FamilyRun) -> None:
    report = report_of(cli(*family.words, "prune.target.params=[0.6,0.3,0.15]"))
    cached = {stage["name"]: stage["cached"] for stage in report["stages"]}
    assert {name for name, reused in cached.items() if not reused} == {
        f"{stage}-0.15params" for stage in ("prune", "export", "quantize")
    }


def test_one_target_keeps_the_plain_names(cli: Cli, family: FamilyRun, tmp_path: Path) -> None:
    words = [*family.words, "prune.target.params=[0.6]", "prune.epochs=0", "quantize=null", "--out", str(tmp_path)]
    report = report_of(cli(*words))
    assert [stage["name"] for stage in report["stages"]] == ["finetune", "prune", "export"]
    assert [variant["name"] for variant in report["variants"]] == ["onnx-fp32"]
    assert report["family"] == []
    open_verified(tmp_path / "2-prune")
