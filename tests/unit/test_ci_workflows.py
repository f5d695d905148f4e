"""The workflows that ``edgetf ci init`` writes are ones that GitHub and this CLI take."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from command_lines import parsed

from edgetf.ci.workflows import HERE, KINDS, Project, first_bounds, workflow, write_workflows
from edgetf.commands.ci import EDIT, ci_init_command
from edgetf.config.load import load_recipe
from edgetf.core.budget import TIMED, parse_budget
from edgetf.core.device import device_names
from edgetf.core.errors import ConfigError

BOARDS = ("raspberry-pi", "jetson")


def tree_of(kind: str, project: Project | None = None) -> dict[Any, Any]:
    tree: dict[Any, Any] = yaml.safe_load(workflow(kind, project or Project()))
    return tree


def steps_of(tree: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in tree["jobs"].values() for step in job["steps"]]


def commands_of(tree: dict[Any, Any]) -> list[list[str]]:
    """The words of each edgetf command, with the variables of ``env:`` in their places as the shell puts them."""
    lines = [line for step in steps_of(tree) for line in step.get("run", "").splitlines()]
    filled = [Template(line).safe_substitute(tree["env"]) for line in lines]
    return [shlex.split(line)[1:] for line in filled if line.startswith("edgetf ")]


def test_there_is_a_workflow_of_each_kind_and_no_other() -> None:
    assert {path.stem for path in HERE.glob("*.yaml")} == set(KINDS) == set(EDIT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_workflow_may_read_only_ends_by_itself_and_leaves_its_results(kind: str) -> None:
    tree = tree_of(kind)
    assert tree["permissions"] == {"contents": "read"}
    assert set(tree["concurrency"]) == {"group", "cancel-in-progress"}
    assert all(0 < job["timeout-minutes"] <= 90 for job in tree["jobs"].values())
    upload = steps_of(tree)[-1]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"] == "always()"
    assert upload["with"]["path"].split()[:2] == ["edgetf.xml", "edgetf.md"]


@pytest.mark.parametrize("kind", KINDS)
def test_actions_are_pinned_to_a_major_version(kind: str) -> None:
    used = [step["uses"] for step in steps_of(tree_of(kind)) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)


@pytest.mark.parametrize("kind", KINDS)
def test_every_blank_is_filled_in(kind: str) -> None:
    assert "%{" not in workflow(kind, Project())


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_is_one_that_there_is(kind: str) -> None:
    if kind == "emulated-arm64" and "emulated_a72" not in device_names():
        pytest.skip("there is no emulated device here")
    commands = commands_of(tree_of(kind))
    assert [words[0] for words in commands if words[0] != "targets"] == ["compress", "validate"]
    for words in commands:
        name, values = parsed(words)
        if name == "validate":
            assert values["require_measured"] and values["github_summary"] and values["junit"]
            assert parse_budget(values["budget"])
            assert set(values["device"]) <= set(device_names())
        if name == "compress":
            recipe, *overrides = values["words"]
            assert load_recipe(recipe.removeprefix("recipe="), overrides).budget == {}


@pytest.mark.parametrize("kind", BOARDS)
def test_a_board_runs_pushes_to_main_only_one_at_a_time_and_needs_no_torch(kind: str) -> None:
    tree = tree_of(kind)
    assert set(tree[True]) == {"push", "workflow_dispatch"}  # PyYAML reads the key `on` as true
    assert tree[True]["push"] == {"branches": ["main"]}
    assert tree["concurrency"] == {"group": f"edgetf-{kind}", "cancel-in-progress": False}
    gate = tree["jobs"]["gate"]
    assert gate["runs-on"] == ["self-hosted", "linux", "arm64", kind]
    assert gate["needs"] == "variants"
    (install,) = (step["run"] for step in gate["steps"] if step.get("name") == "Install")
    assert "'edgetf[ort]'" in install


def test_a_jetson_logs_its_power_mode_and_clocks() -> None:
    text = workflow("jetson", Project())
    assert "nvpmodel -q" in text and "jetson_clocks --show" in text


def test_a_gate_begins_with_the_bounds_of_its_recipe() -> None:
    budget = load_recipe("quickstart", []).budget
    assert set(budget) & set(TIMED), "the shipped recipe bounds time, which this test is about"
    assert first_bounds("hosted", budget) == budget
    for kind in BOARDS:
        assert set(first_bounds(kind, budget)) == set(budget) - set(TIMED)  # a board's speed was not measured yet
    assert "instructions_ratio" in first_bounds("emulated-arm64", budget)
    assert first_bounds("hosted", {}) == {"size_ratio": 1.0}


def test_a_projects_own_recipe_and_source_are_filled_in(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    tree = load_recipe("quickstart", []).model_dump(mode="json")
    recipe.write_text(yaml.safe_dump({**tree, "name": "mine", "budget": {"accuracy_drop": 0.01}}))
    project = Project(str(recipe), "tflite-w8a8_dynamic", "git+https://host/edgetf.git@v1")
    made = tree_of("raspberry-pi", project)
    assert made["env"] == {"RECIPE": str(recipe), "VARIANT": "tflite-w8a8_dynamic",
                           "BUDGET": "--budget accuracy_drop=0.01"}  # fmt: skip
    installs = [step["run"] for step in steps_of(made) if step.get("name") == "Install"]
    assert installs[0] == "pip install 'edgetf[compress,tflite] @ git+https://host/edgetf.git@v1'"
    assert "'edgetf[ort,litert] @ git+https://host/edgetf.git@v1'" in installs[1]


@pytest.mark.parametrize(
    ("kind", "project", "message"),
    [
        ("jetsen", Project(), "--board jetsen: no such workflow; did you mean jetson?"),
        ("hosted", Project(recipe="quickstrat"), "did you mean quickstart"),
        ("hosted", Project(variant="onnx-w4a4"), "--variant onnx-w4a4: not made by quickstart"),
        ("hosted", Project(edgetf="edgetf' && rm -rf '"), "--edgetf "),
    ],
)
def test_what_would_not_work_is_refused(kind: str, project: Project, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        workflow(kind, project)


def test_a_workflow_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    out = tmp_path / ".github" / "workflows"
    out.mkdir(parents=True)
    own = out / "edgetf-jetson.yaml"
    own.write_text("mine")
    with pytest.raises(ConfigError, match=r"edgetf-jetson.yaml: is there already; --force replaces it"):
        write_workflows(["hosted", "jetson"], Project(), out, force=False)
    assert [path.name for path in out.iterdir()] == [own.name]
    assert own.read_text() == "mine"
    written = write_workflows(["hosted", "jetson"], Project(), out, force=True)
    assert sorted(written) == sorted(out.iterdir())
    assert own.read_text() == workflow("jetson", Project())


def test_it_says_what_it_wrote_and_what_to_edit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ci_init_command([], Project(), tmp_path, force=False, as_json=False) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'edgetf-hosted.yaml'}\n    BUDGET under env: " in said
    assert ci_init_command(["jetson", "jetson"], Project(), tmp_path, force=False, as_json=True) == 0
    (entry,) = json.loads(capsys.readouterr().out)["written"]
    assert entry["path"] == str(tmp_path / "edgetf-jetson.yaml")
    assert "label jetson" in entry["edit"]
