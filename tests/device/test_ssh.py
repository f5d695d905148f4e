"""A board behind a real SSH server: the command line measures there as it does here, and nothing is sent twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cli, Tiny, TinyRun
from sshd import LoopbackBoard, loopback_board

from edgetf.core.device import load_device
from edgetf.targets.delivery import KEPT
from edgetf.targets.ssh import SshShell


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackBoard]:
    with loopback_board(tmp_path_factory.mktemp("board") / "b") as found:
        yield found


def pushed(board: LoopbackBoard) -> dict[str, int]:
    """Files on the board with the moment in which they were written."""
    return {path.name: path.stat().st_ino for path in (board.home / ".cache" / "edgetf").iterdir()}


@pytest.mark.parametrize("name", ["onnx-w8a8_dynamic", "tflite-w8a8_dynamic"])
def test_validate_over_ssh_is_the_whole_of_it(
    cli: Cli, tiny_run: TinyRun, board: LoopbackBoard, tmp_path: Path, name: str
) -> None:
    profile = board.profile(tmp_path, runtimes=("ort", "litert"))
    words = ["validate", tiny_run.folder / name, "--budget", "accuracy_drop=0.3", "--json", "--device"]
    there = cli(*words, profile)
    assert there.returncode == 0, there.stderr
    row, own = (json.loads(done.stdout)["devices"][0] for done in (there, cli(*words, "host")))
    assert (row["device"], row["how"], row["verdict"]) == ("loopback", "measured", "pass")
    assert row["metrics"] == own["metrics"]  # the same file on the same processor
    assert row["speedup"] > 0 and row["latency_p50_ms"] > 0 and row["peak_rss_bytes"] > 10_000_000
    assert (row["backend"], row["seq_len"]) == (own["backend"], own["seq_len"])
    assert board.empties()


def test_a_board_without_onnx_runtime_judges_tflite_without_a_speedup(
    cli: Cli, tiny_run: TinyRun, board: LoopbackBoard, tmp_path: Path
) -> None:
    profile = board.profile(tmp_path, runtimes=("litert",))
    done = cli("validate", tiny_run.folder / "tflite-fp32", "--device", profile, "--json")
    row = json.loads(done.stdout)["devices"][0]
    assert row["latency_p50_ms"] > 0 and row["speedup"] is None
    assert "no runtime for the teacher's fp32 ONNX file" in " ".join(row["why"])


def test_bench_over_ssh_sends_a_file_once(cli: Cli, tiny_run: TinyRun, board: LoopbackBoard, tmp_path: Path) -> None:
    words = ["bench", tiny_run.folder / "onnx-fp32", "--device", board.profile(tmp_path), "--samples", 30, "--json"]
    first = json.loads(cli(*words).stdout)
    before = pushed(board)
    again = json.loads(cli(*words).stdout)
    assert pushed(board) == before
    assert (first["how"], len(again["models"][0]["samples_ms"])) == ("measured", 30)
    assert again["machine"]["cores"] >= 1


def test_a_pushed_file_that_changed_is_sent_anew(
    cli: Cli, tiny_run: TinyRun, board: LoopbackBoard, tmp_path: Path
) -> None:
    words = ["bench", tiny_run.folder / "onnx-fp32", "--device", board.profile(tmp_path, folder="changed"), "--json"]
    assert cli(*words).returncode == 0
    (model,) = (board.home / "changed").iterdir()
    right = model.read_bytes()
    model.write_bytes(right[:-1] + b"?")
    assert cli(*words).returncode == 0
    assert model.read_bytes() == right


def test_only_the_newest_files_are_kept_and_it_is_said(
    cli: Cli, tiny_run: TinyRun, board: LoopbackBoard, tmp_path: Path
) -> None:
    folder = board.home / "many"
    folder.mkdir()
    for number in range(KEPT + 3):
        (folder / f"{number:016x}.onnx").write_text("old")
    (folder / "notes.txt").write_text("the user's own")
    profile = board.profile(tmp_path, folder="many")
    done = cli("bench", tiny_run.folder / "onnx-fp32", "--device", profile)
    assert f"removed 4 old file(s) from many, the newest {KEPT} are kept" in done.stderr
    assert (len(list(folder.glob("*.onnx"))), (folder / "notes.txt").read_text()) == (KEPT, "the user's own")


def test_the_connection_ends_with_its_owner(board: LoopbackBoard, tmp_path: Path) -> None:
    profile = load_device(str(board.profile(tmp_path)))
    assert profile.ssh is not None
    shell = SshShell("loopback", profile.ssh)
    socket = shell._socket
    assert socket.exists() and board.sessions()
    assert shell.run("echo one; exit 3").code == 3
    del shell
    assert not socket.parent.exists()
    assert board.empties()


def test_a_run_measures_its_variants_on_a_board_too(
    cli: Cli, tiny: Tiny, tiny_run: TinyRun, board: LoopbackBoard, tmp_path: Path
) -> None:
    """The stages are those of the first run."""
    profile = board.profile(tmp_path, runtimes=("ort", "litert"))
    words = [
        "compress",
        f"recipe={tiny.recipe}",
        f'validation.devices=["host", "{profile}"]',
        "--out",
        tmp_path / "run",
    ]
    done = cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for variant in report["variants"]:
        assert [(row["device"], row["how"]) for row in variant["devices"]] == [
            ("host", "measured"), ("loopback", "measured"),
        ], variant["name"]  # fmt: skip
    assert all(row["verdict"] == "pass" for variant in report["variants"] for row in variant["devices"])
