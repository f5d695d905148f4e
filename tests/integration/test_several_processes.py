"""Several processes on one run: the same result as one process, one writer, and one end for all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cli, environment
from tiny import tiny_classifier, tiny_rows, tiny_scores, tiny_tagged

from edgetf.core.artifact import load, open_verified

pytestmark = pytest.mark.slow
Process = subprocess.Popen[str]
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2",
          "--main_process_port", "0", "-m", "edgetf"]  # fmt: skip
STATES = {"relations": 0.5, "relation_heads": 4, "hidden": 0.3, "attention": 0.2, "embedding": 0.1}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Batches of 17, which do not split evenly, without dropout; rows for two blocks of the teacher's outputs."""
    folder = tmp_path_factory.mktemp("tiny")
    rows = tiny_rows(400)
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows[:200])
    )
    (folder / "more.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in rows[200:]))
    teacher = tiny_classifier("bert", folder / "teacher", sorted({label for _, label in rows}))
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (teacher / "config.json").write_text(json.dumps({**read(teacher / "config.json"), **still}))
    training = {"epochs": 2, "batch_size": 17, "learning_rate": 0.003, "threads": 1}
    path = folder / "pair.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "teacher": {"source": str(teacher)},
                "data": {
                    "source": str(folder / "rows.jsonl"),
                    "unlabelled": str(folder / "more.jsonl"),
                    "max_length": 16,
                    "split": {"dev": 0.15, "test": 0.2, "seed": 0},
                },
                "student": {"num_hidden_layers": 1},
                "stages": [
                    {"stage": "finetune", **training, "epochs": 6},
                    {"stage": "distill", **training, **STATES, "gradient_accumulation": 2, "cache_states": True},
                    {"stage": "prune", **training, "epochs": 1, "ffn_ratio": 0.5, "round_to": 8},
                    {"stage": "export", "formats": ["onnx"]},
                ],
                "validation": {"samples": 30},
            }
        )
    )
    return path


@contextmanager
def two(cache: Path, words: list[object], **more: str) -> Iterator[list[Process]]:
    """Two processes as a launcher starts them, so that the exit code of each can be seen."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran: list[Process] = []
    for rank in range(2):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        env = {**environment(cache), **{name: str(value) for name, value in told.items()}, **more}
        ran.append(
            subprocess.Popen(
                [sys.executable, "-m", "edgetf", "compress", *map(str, words)],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )  # fmt: skip
        )
    try:
        yield ran
    finally:
        for process in ran:
            process.kill()


def ends(processes: list[Process]) -> tuple[list[int], list[str], list[str]]:
    """Exit codes, and what was written to stdout and stderr."""
    said = [process.communicate(timeout=240) for process in processes]
    return [process.returncode for process in processes], [out for out, _ in said], [err for _, err in said]


@pytest.fixture(scope="module")
def pair(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The run of two processes, by accelerate launch, and what it said."""
    top = tmp_path_factory.mktemp("pair")
    words = [*LAUNCH, "compress", f"recipe={recipe}", "--out", str(top / "run"), "--json"]
    env = environment(top / "cache")
    return top / "run", subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, timeout=500)


def test_two_write_once(pair: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = pair
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == read(folder / "report.json")
    assert done.stderr.count("1-finetune: done in") == done.stderr.count("2-distill: done in") == 1
    sealed = [path.parent for path in folder.glob("*/manifest.json")]
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {path.name for path in sealed}
    for path in sealed:
        open_verified(path)


def test_two_give_what_one_gives(
    pair: tuple[Path, subprocess.CompletedProcess[str]], recipe: Path, tmp_path: Path
) -> None:
    """Losses and weights; a key's bias has no gradient, and moves by its rounding errors, which Adam makes large."""
    from safetensors.numpy import load_file

    words = [sys.executable, "-m", "edgetf", "compress", f"recipe={recipe}", "--out", str(tmp_path / "run")]
    done = subprocess.run(words, env=environment(tmp_path / "cache"), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    for stage in ("1-finetune", "2-distill", "3-prune"):
        one, other = load(tmp_path / "run" / stage), load(pair[0] / stage)
        for ours, theirs in zip(
            one.spec.details["training"]["history"], other.spec.details["training"]["history"], strict=True
        ):
            assert theirs == pytest.approx(ours, abs=3e-5, rel=1e-4), stage
        wanted = load_file(one.model_path)
        for name, weights in load_file(other.model_path).items():
            assert name.endswith("key.bias") or abs(weights - wanted[name]).mean() < 1e-5, (stage, name)


def task_recipe(folder: Path, task: str) -> Path:
    """A recipe of another task, without dropout; rows of unlike lengths, so that words do not split evenly."""
    teacher = tiny_classifier("bert", folder / "teacher")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (teacher / "config.json").write_text(json.dumps({**read(teacher / "config.json"), **still}))
    training = {"epochs": 2, "batch_size": 17, "learning_rate": 0.003, "threads": 1}
    target = {"params": [0.6, 0.4]} if task == "token_classification" else {"params": 0.6}
    stages: list[dict[str, Any]] = [
        {"stage": "distill", **training, "hidden": 0.1},
        {"stage": "prune", **training, "epochs": 1, "round_to": 8, "target": target},
        {"stage": "export", "formats": ["onnx"]},
    ]
    rows: list[dict[str, Any]]
    match task:
        case "token_classification":
            rows = [{"tokens": words, "tags": tags} for words, tags in tiny_tagged(200)]
        case "regression":
            rows = [{"text": text, "label": number} for text, number in tiny_scores(200)]
        case _:
            rows = [{"text": text} for text, _ in tiny_rows(200)]
    if task != "sentence_embeddings":
        stages.insert(0, {"stage": "finetune", **training, "epochs": 6})
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "task.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "task": task,
                "teacher": {"source": str(teacher)},
                "data": {"source": str(source), "max_length": 16},
                "student": {"num_hidden_layers": 1},
                "stages": stages,
                "validation": {"samples": 30},
            }
        )
    )
    return path


@pytest.mark.parametrize("task", ["token_classification", "regression", "sentence_embeddings"])
def test_other_tasks_give_the_same_with_two(cli: Cli, tmp_path: Path, task: str) -> None:
    """Means over words, numbers and vectors; a teacher that so few steps taught little may fail its baseline."""
    recipe = task_recipe(tmp_path, task)
    alone = subprocess.run(
        [sys.executable, "-m", "edgetf", "compress", f"recipe={recipe}", "--out", str(tmp_path / "one")],
        env=environment(tmp_path / "one-cache"), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    with two(tmp_path / "two-cache", [f"recipe={recipe}", "--out", tmp_path / "two"]) as processes:
        codes, _, err = ends(processes)
    assert codes == [alone.returncode] * 2, err
    made = [path for path in sorted((tmp_path / "one").glob("[1-9]-*")) if load(path).spec.details.get("training")]
    assert len(made) == {"token_classification": 4, "regression": 3, "sentence_embeddings": 2}[task]
    for path in made:
        ours, theirs = (load(folder / path.name).spec for folder in (tmp_path / "one", tmp_path / "two"))
        histories = zip(ours.details["training"]["history"], theirs.details["training"]["history"], strict=True)
        for one, other in histories:
            assert other == pytest.approx(one, abs=1e-4, rel=1e-3), path.name
    cli("report", tmp_path / "two", "--markdown", tmp_path / "report.md")
    report = (tmp_path / "report.md").read_text()
    headline = {"token_classification": "f1", "regression": "pearson"}.get(task, "similarity_spearman")
    assert f"| stage | {headline} | parameters |" in report and "accuracy" not in report
    if task == "token_classification":
        assert "| member | variant | f1 | drop |" in report
        for member in ("0.6params", "0.4params"):
            (row,) = [line.split(" | ") for line in report.splitlines() if line.startswith(f"| {member} |")]
            assert "±" in row[2] and row[3][0] in "+-"


def test_a_wrong_recipe_is_2_in_both(recipe: Path, cache: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    with two(cache, [f"recipe={recipe}", "distill.temprature=2", "--out", tmp_path / "run"]) as processes:
        codes, out, err = ends(processes)
    assert codes == [2, 2]
    assert err[0].strip().endswith("distill.temprature: not a field; did you mean temperature?")
    assert [out, err[1]] == [["", ""], ""]
    assert time.monotonic() - started < 60


def test_a_missed_budget_is_1_in_both(
    pair: tuple[Path, subprocess.CompletedProcess[str]], recipe: Path, tmp_path: Path
) -> None:
    words = [f"recipe={recipe}", 'budget={"size_ratio": 1000}', "--out", pair[0], "--json"]
    with two(pair[0].parent / "cache", words) as processes:
        codes, out, _ = ends(processes)
    assert codes == [1, 1]
    assert json.loads(out[0])["verdict"] == "fail"
    assert out[1] == ""


def test_a_loss_that_is_no_number_is_told_once(recipe: Path, cache: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    teacher = tiny_classifier("bert", tmp_path / "teacher")
    weights = load_file(teacher / "model.safetensors")
    weights["bert.embeddings.LayerNorm.weight"][:] = float("nan")
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    with two(cache, [f"recipe={recipe}", f"teacher.source={teacher}", "--out", tmp_path / "run"]) as processes:
        codes, _, err = ends(processes)
    assert codes == [2, 2]
    assert "".join(err).count("the loss became nan") == 1
    assert "Traceback" not in "".join(err)
    assert not list((tmp_path / "run").glob("1-finetune*"))


def long(recipe: Path, out: Path) -> list[object]:
    """A run whose distillation takes long enough to be ended in."""
    return [f"recipe={recipe}", "distill.epochs=30", "distill.checkpoint_seconds=0.2", "prune=null", "--out", out]


def wait_for_distill(out: Path, alive: Process) -> None:
    end = time.monotonic() + 300
    while not (out / "2-distill.partial" / "checkpoint" / "state" / "progress.json").exists():
        assert alive.poll() is None, "the run ended too early"
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_kill_ends_all_and_one_process_goes_on(recipe: Path, cli: Cli, cache: Path, tmp_path: Path) -> None:
    words = long(recipe, tmp_path / "run")
    with two(cache, words) as processes:
        wait_for_distill(tmp_path / "run", processes[0])
        processes[1].kill()
        codes, _, err = ends(processes)
    assert codes == [130, -signal.SIGKILL]
    assert "interrupted; run the same command again" in err[0]
    assert "Traceback" not in err[0]
    done = cli("compress", *words)
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stderr
    training = open_verified(tmp_path / "run" / "2-distill").spec.details["training"]
    assert (training["resumed"], len(training["history"])) == (1, 30)


def test_the_death_of_the_main_process_ends_the_other(recipe: Path, cache: Path, tmp_path: Path) -> None:
    with two(cache, [*long(recipe, tmp_path / "run"), "seed=1"]) as processes:
        wait_for_distill(tmp_path / "run", processes[0])
        processes[0].kill()
        codes, _, err = ends(processes)
    assert codes == [-signal.SIGKILL, 130]
    assert "Traceback" not in err[1]


def test_an_interrupt_of_the_launcher_ends_all(recipe: Path, cache: Path, tmp_path: Path) -> None:
    words = [*LAUNCH, "compress", *long(recipe, tmp_path / "run"), "seed=2"]
    launcher = subprocess.Popen(
        [sys.executable, *map(str, words)], env=environment(cache), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_for_distill(tmp_path / "run", launcher)
    launcher.send_signal(signal.SIGTERM)
    _, stderr = launcher.communicate(timeout=60)
    assert launcher.returncode != 0
    assert stderr.count("edgetf: interrupted; run the same command again") == 1
    with pytest.raises(ProcessLookupError):
        os.killpg(launcher.pid, 0)


def test_sharded_weights_are_refused(recipe: Path, cache: Path) -> None:
    with two(cache, [f"recipe={recipe}"], ACCELERATE_USE_FSDP="true") as processes:
        codes, _, err = ends(processes)
    assert codes == [2, 2]
    assert "allowed: plain data parallelism" in err[0]


def blocks_in(cache: Path) -> dict[str, int]:
    """The blocks of the teacher's outputs, with when they were written."""
    return {
        str(path.relative_to(cache)): path.stat().st_mtime_ns
        for path in cache.rglob("block-*")
        if path.suffix != ".part"
    }


def test_other_machines_fill_the_cache(recipe: Path, tmp_path: Path) -> None:
    """One part here; another where only the teacher's folder came; both are joined by a run that asks no teacher."""
    here, there = tmp_path / "here", tmp_path / "there"

    def outputs(cache: Path, part: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edgetf", "compress", f"recipe={recipe}", "--teacher-outputs", part, "--json",
             *map(str, words)],
            env=environment(cache), capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    refused = outputs(here, "2/2", "--out", tmp_path / "other")
    assert refused.returncode == 2
    assert "the teacher is not in the cache; let part 1/2 make it" in refused.stderr
    first = outputs(here, "1/2", "--out", tmp_path / "run")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["part"] == {"number": 1, "of": 2}
    nothing = ["distill.logits=0", "distill.cache_states=false", "prune=null"]
    again = outputs(here, "2/2", "--out", tmp_path / "other", *nothing)
    assert again.returncode == 0, again.stderr
    assert "1-finetune: reused" in again.stderr
    carried = ["finetune=null", f"teacher.source={tmp_path / 'run' / '1-finetune'}"]
    second = outputs(there, "2/2", *carried, "--out", tmp_path / "elsewhere")
    assert second.returncode == 0, second.stderr
    ours, theirs = blocks_in(here), blocks_in(there)
    assert {Path(name).parent for name in ours} == {Path(name).parent for name in theirs}
    assert {Path(name).stem for name in ours} == {"block-000"}
    assert {Path(name).stem for name in theirs} == {"block-001"}

    for kind in ("teacher-logits", "teacher-states"):
        shutil.copytree(there / kind, here / kind, dirs_exist_ok=True)
    states = {name: when for name, when in blocks_in(here).items() if name.startswith("teacher-states")}
    words = [f"recipe={recipe}", "prune=null", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "edgetf", "compress", *words],
        env=environment(here), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1-finetune: reused" in done.stderr
    assert blocks_in(here) == states
    assert len(list((here / "teacher-logits").glob("*/top.npy"))) == 1


def test_two_processes_fill_a_part(recipe: Path, tmp_path: Path) -> None:
    words = [f"recipe={recipe}", "finetune.ensemble=2", "--teacher-outputs", "1/1", "--out", tmp_path / "run", "--json"]
    with two(tmp_path / "cache", words) as processes:
        codes, out, _ = ends(processes)
    assert codes == [0, 0]
    assert json.loads(out[0])["part"] == {"number": 1, "of": 1}
    assert out[1] == ""
    for name in ("1-finetune", "1-finetune-1"):
        open_verified(tmp_path / "run" / name)
    assert sorted(Path(name).name for name in blocks_in(tmp_path / "cache")) == [
        "block-000.f16", "block-000.npz", "block-001.f16", "block-001.npz",
    ]  # fmt: skip
