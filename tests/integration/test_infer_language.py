"""``edgetf infer`` goes on with a text: exactly where asked, as it comes, and with words for every wrong option."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, environment
from tiny_decoder import artifact, exported

from edgetf.core.artifact import Spec, seal
from edgetf.runtime.decode.generate import generate
from edgetf.runtime.decode.text import TextCodec

Infer = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed tiny Llama."""
    pytest.importorskip("transformers", reason="needs edgetf[compress]")
    return artifact(exported("llama"), tmp_path_factory.mktemp("run") / "onnx-fp32").path


@pytest.fixture
def infer(cli: Cli, folder: Path) -> Infer:
    """``edgetf infer … --json`` as its document."""

    def run(*words: object, stdin: str | None = None) -> Any:
        done = cli("infer", folder, *words, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_greedy_tokens_are_those_of_the_session(infer: Infer, folder: Path) -> None:
    (found,) = infer("once upon", "--greedy", "--max-new-tokens", 24)
    made = exported("llama")
    ids = TextCodec(folder, made.facts).ids("once upon")
    assert found["token_ids"] == list(generate(made.session(), ids, max_new_tokens=24))
    assert found["text"] == "once upon" + found["new_text"] and found["prompt_tokens"] == len(ids)
    assert found["stopped_by"] in {"eos", "max_new_tokens"} and found["time_to_first_token_ms"] > 0
    assert found["tokens_per_second"] > 0


def test_a_seed_gives_its_text_again_and_another_gives_another(infer: Infer) -> None:
    words = ("once", "--max-new-tokens", 20, "--top-p", 0.9, "--top-k", 50, "--temperature", 1.2)
    texts = [infer(*words, "--seed", seed)[0]["token_ids"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_streamed_text_is_the_text(cli: Cli, folder: Path, infer: Infer) -> None:
    words = ("once upon", "--max-new-tokens", 30, "--seed", 3)
    wanted = infer(*words)[0]["text"] + "\n"
    for streamed in ((), ("--stream",)):
        done = cli("infer", folder, *words, *streamed)
        assert (done.returncode, done.stdout) == (0, wanted)
    both = cli("infer", folder, *words, "--stream", "--json")  # one document on stdout, the text beside it
    assert both.stderr == wanted and json.loads(both.stdout)[0]["text"] + "\n" == wanted


def test_a_stop_string_ends_the_text_and_is_not_in_it(infer: Infer) -> None:
    (whole,) = infer("once", "--greedy", "--max-new-tokens", 40)
    stop = whole["new_text"][5:8]
    (found,) = infer("once", "--greedy", "--max-new-tokens", 40, "--stop", "never this", "--stop", stop)
    assert (found["stopped_by"], found["stop"]) == ("stop", stop)
    assert found["new_text"] == whole["new_text"][: whole["new_text"].index(stop)]


def test_prompts_come_one_a_line_from_stdin(infer: Infer) -> None:
    found = infer("--greedy", "--max-new-tokens", 4, stdin="once\n\n upon a time \n")
    assert [each["prompt"] for each in found] == ["once", "upon a time"]
    assert found[0]["token_ids"] == infer("once", "--greedy", "--max-new-tokens", 4)[0]["token_ids"]


def test_with_a_window_stdin_is_one_text_of_any_length(infer: Infer, folder: Path) -> None:
    text = "once upon a time there was a wolf in the forest " * 200
    (found,) = infer("--window", 64, "--sinks", 2, "--greedy", "--max-new-tokens", 5, stdin=text + "\n")
    assert found["prompt"] is None and len(found["token_ids"]) == 5
    assert found["prompt_tokens"] == len(TextCodec(folder, exported("llama").facts).ids(text))
    (short,) = infer("--window", 64, "--greedy", "--max-new-tokens", 5, stdin="once upon\n")
    assert short["token_ids"] == infer("once upon", "--greedy", "--max-new-tokens", 5)[0]["token_ids"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--greedy", "--top-p", "0.9", "--seed", "0"], "infer: --greedy: draws nothing, so leave out --top-p, --seed"),
        (["--top-p", "1.5"], "top_p: got 1.5, allowed: more than 0, up to 1"),
        (["--temperature", "-1"], "temperature: got -1.0, allowed: 0 (the likeliest token) or more"),
        (["--sinks", "4"], "infer: --sinks: needs a window; add --window"),
        (["--window", "513"], "window: got 513, allowed: the 512 tokens of this model, or fewer"),
        (["--window", "8", "--sinks", "7"], "window: got 8, allowed: 9 or more with 7 sinks"),
        (["--pair", "x"], "infer: --pair: a language model goes on with one text; leave it out"),
    ],
)
def test_wrong_options_are_one_message(cli: Cli, folder: Path, words: list[str], said: str) -> None:
    done = cli("infer", folder, "once", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"edgetf: {said}\n")


def test_a_prompt_longer_than_the_model_asks_for_a_window(cli: Cli, folder: Path) -> None:
    done = cli("infer", folder, "zq " * 300)
    assert done.returncode == 2 and "without a window; set a window" in done.stderr and not done.stdout.strip()


def test_no_text_at_all_is_one_message(cli: Cli, folder: Path) -> None:
    done = cli("infer", folder, stdin="\n")
    assert (done.returncode, done.stderr) == (2, "edgetf: infer: no text; give one, or lines on stdin\n")


def test_options_of_language_models_are_refused_elsewhere(cli: Cli, tmp_path: Path) -> None:
    def write(out: Path) -> tuple[Spec, float]:
        (out / "model.onnx").write_text("")
        return Spec("onnx", "model.onnx", details={"task": "sequence_classification"}), 0.0

    variant = seal(tmp_path / "onnx-fp32", stage="export", key="k", parents=(), made={}, write=write).path
    done = cli("infer", variant, "rain", "--top-p", 0.9, "--stream")
    assert done.returncode == 2
    assert done.stderr == (
        f"edgetf: infer: --stream: {variant} is no language model; leave it out\n"
        f"infer: --top-p: {variant} is no language model; leave it out\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_an_interrupt_ends_the_text_where_it_is(tmp_path: Path, cache: Path) -> None:
    pytest.importorskip("transformers", reason="needs edgetf[compress]")
    made = exported("llama")
    endless = artifact(replace(made, facts=replace(made.facts, eos_ids=())), tmp_path / "onnx-fp32").path
    words = ["infer", str(endless), "once", "--stream", "--max-new-tokens", "1000000", "--window", "64", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetf", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(cache), bufsize=0,
    )  # fmt: skip
    assert process.stderr is not None
    begun = process.stderr.read(20)  # it goes on without an end; nothing is read ahead, see bufsize
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)  # the same as SIGINT, which processes in the background do not hear
    out, err = process.communicate(timeout=60)
    (record,) = json.loads(out)
    assert process.returncode == 130 and record["stopped_by"] == "interrupt" and b"Traceback" not in err
    shown = (begun + err).decode()
    assert len(shown) > 20 and shown.endswith("\n") and record["text"].startswith(shown[:-1])


def test_every_character_of_a_prompt_is_whole(infer: Infer) -> None:
    (found,) = infer("日本", "--max-new-tokens", 60, "--temperature", 1.5)
    assert found["text"].startswith("日本") and found["text"] == found["prompt"] + found["new_text"]
