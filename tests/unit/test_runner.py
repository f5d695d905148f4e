"""The runner answers over pipes from a process of its own, and whatever ends it is one message with its exit code."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import WORDS, tiny_tokenizer

from edgetf.core.errors import ArtifactError, DeviceError, EdgetfError, ParityError
from edgetf.runtime import runner
from edgetf.runtime.bench import timed_batch
from edgetf.runtime.classify import classify
from edgetf.runtime.fake import FakeBackend
from edgetf.runtime.lease import Voice
from edgetf.runtime.memory import peak_rss_bytes
from edgetf.runtime.model import Model
from edgetf.targets.local import ask_runner

pytest.importorskip("tokenizers", reason="needs edgetf[ort]")
TEXTS = ["bank shares", "goal match", "rain storm cloud"]
PLUGIN = """
import os, signal, sys
from edgetf.runtime.fake import FakeBackend

class Killed(FakeBackend):
    def load(self, model, threads):
        print("the last words of a runtime", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

class Chatty(FakeBackend):
    def load(self, model, threads):
        os.write(1, b"INFO: created a delegate\\n")
        print("chatter")
        return super().load(model, threads)

class Buggy(FakeBackend):
    def load(self, model, threads):
        raise ZeroDivisionError("a bug")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and two fake models."""
    path = tmp_path_factory.mktemp("model")
    tiny_tokenizer(path)
    weight = np.random.default_rng(2).normal(size=(200, 3))
    (path / "model.json").write_text(json.dumps({"weight": weight.tolist(), "bias": [0, 0, 0]}))
    (path / "nan.json").write_text(json.dumps({"weight": [[float("nan")]], "bias": [0]}))
    (path / "broken.json").write_text("{")
    return path


def model(folder: Path, model_file: str = "model.json", backend: str = "fake") -> dict[str, Any]:
    """A model as a request names it."""
    return {**vars(Model("m", folder, model_file, backend, max_length=16)), "folder": str(folder)}


def asks(folder: Path, **how: str) -> dict[str, Any]:
    return {"do": "classify", "model": model(folder, **how), "threads": 1, "texts": TEXTS, "pairs": None}


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends that behave badly, where the runner finds them."""
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    points = "killed = bad_backends:Killed\nchatty = bad_backends:Chatty\nbuggy = bad_backends:Buggy\n"
    (info / "entry_points.txt").write_text(f"[edgetf.backends]\n{points}")
    (tmp_path / "bad_backends.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_classify_answers_as_the_session_does(folder: Path) -> None:
    answer = ask_runner(asks(folder))
    here = Model("m", folder, "model.json", "fake", 16)
    wanted = classify(FakeBackend().load(folder / "model.json", 1), here.encoder().inputs(TEXTS), 0)
    assert np.array_equal(np.asarray(answer["logits"]), wanted)
    assert answer["backend"] == {"asked": "numpy", "ran": "numpy", "nodes": {}}
    assert answer["load_ms"] > 0
    assert answer["first_ms"] > 0
    assert 1 << 20 < answer["peak_rss_bytes"] < 1 << 34
    assert answer["machine"]["cores"] >= 1


def test_text_of_every_kind_passes_the_pipe(folder: Path) -> None:
    strange = ["line\nbreak", "\u2028 \x85 \x00", "ÄÖ 漢字 🎉", '"quotes" \\', "", "word " * 20_000]
    answer = ask_runner({**asks(folder), "texts": strange, "pairs": strange[::-1]})
    assert np.asarray(answer["logits"]).shape == (6, 3)


def test_bench_times_every_model_in_turns(folder: Path) -> None:
    models = [model(folder), model(folder)]
    answer = ask_runner({"do": "bench", "models": models, "threads": 1, "samples": 30, "seq_len": 12, "text": "bank"})
    assert [len(samples) for samples in answer["samples_ms"]] == [30, 30]
    assert answer["seq_lens"] == [12, 12]
    assert answer["backends"] == [{"asked": "numpy", "ran": "numpy", "nodes": {}}] * 2
    assert all(sample > 0 for samples in answer["samples_ms"] for sample in samples)
    assert [len(samples) for samples in answer["after_another_ms"]] == [16, 15]


@pytest.mark.parametrize(
    ("request_of", "error", "message"),
    [
        (lambda at: asks(at, model_file="nowhere.json"), ArtifactError, "nowhere.json: not found"),
        (lambda at: asks(at, model_file="broken.json"), ArtifactError, "not a fake model"),
        (lambda at: asks(at, backend="fakee"), DeviceError, "backend fakee: not known"),
        (lambda at: asks(at, model_file="nan.json"), ParityError, "NaN or infinite logits"),
        (lambda at: {"do": "dance", "threads": 1}, EdgetfError, "got do='dance', allowed: classify, bench"),
    ],
    ids=["missing", "broken", "backend", "nan", "unknown"],
)
def test_an_error_comes_back_as_itself(folder: Path, request_of: Any, error: type[EdgetfError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        ask_runner(request_of(folder))
    assert caught.value.exit_code == error.exit_code


@pytest.mark.usefixtures("plugins")
def test_a_killed_runner_is_a_device_error_with_its_last_words(folder: Path) -> None:
    with pytest.raises(DeviceError, match="ended with code -9 and no result: .*the last words of a runtime"):
        ask_runner(asks(folder, backend="killed"))


@pytest.mark.usefixtures("plugins")
def test_a_bug_in_a_backend_is_a_device_error_that_names_it(folder: Path) -> None:
    with pytest.raises(DeviceError, match="no result: .*ZeroDivisionError: a bug"):
        ask_runner(asks(folder, backend="buggy"))


@pytest.mark.usefixtures("plugins")
def test_what_a_runtime_prints_does_not_disturb_the_answer(folder: Path) -> None:
    assert len(ask_runner(asks(folder, backend="chatty"))["logits"]) == 3


def test_progress_is_told_while_it_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "TICK_SECONDS", 0.0)
    stream = io.StringIO()
    runner.classify_texts(asks(folder), Voice(stream))
    messages = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert messages == [{"kind": "tick", "done": done, "total": 3} for done in (1, 2, 3)]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 16, 40])
def test_the_timed_input_has_exactly_its_length(folder: Path, length: int) -> None:
    """The length that is reported must be the one that ran."""
    here = Model("m", folder, "model.json", "fake", 64)
    for given in (" ".join(WORDS[:9]), "bank", ""):
        batch = timed_batch(here, given, length)
        assert batch.input_ids.shape == batch.attention_mask.shape == batch.token_type_ids.shape == (1, length)
        assert batch.attention_mask.all()


def test_the_timed_input_is_made_of_the_texts_words(folder: Path) -> None:
    here = Model("m", folder, "model.json", "fake", 64)
    words = here.encoder().pieces(["bank goal"])[0][0].input_ids
    ids = timed_batch(here, "bank goal", 7).input_ids[0].tolist()
    assert ids == [words[0], words[1], words[2], words[1], words[2], words[1], words[-1]]


def test_a_model_without_a_tokenizer_is_timed_too(tmp_path: Path) -> None:
    batch = timed_batch(Model("m", tmp_path, "model.json", "fake", 64), "any text", 9)
    assert batch.input_ids.shape == (1, 9)


def test_peak_memory_is_that_of_this_process() -> None:
    assert 1 << 20 < peak_rss_bytes() < 1 << 36


def test_minutes_are_told_in_windows(folder: Path) -> None:
    ticks: list[tuple[int, int]] = []
    request = {"do": "sustain", "model": model(folder), "threads": 1, "seq_len": 12, "text": "bank", "seconds": 0.6}
    answer = ask_runner(request, lambda done, total: ticks.append((done, total)))
    ends = [window["end_s"] for window in answer["windows"]]
    assert len(ends) == len(ticks) == 30
    assert ends == sorted(ends)
    assert ends[-1] >= 0.6
    assert all(window["latency_p50_ms"] > 0 and window["n"] > 1 for window in answer["windows"])


def test_a_pinned_runner_stays_on_its_core(folder: Path) -> None:
    request = {"do": "bench", "models": [model(folder)], "threads": 1, "samples": 30, "seq_len": 12, "text": "bank"}
    assert ask_runner({**request, "cpus": [0]})["conditions"]["pinned_to"] in ([0], None)
    with pytest.raises(DeviceError, match=r"cpus: got \[4095\], allowed: some of"):
        ask_runner({**request, "cpus": [4095]})


def test_a_provider_that_is_not_there_is_a_device_error(folder: Path) -> None:
    with pytest.raises(DeviceError, match="fake: got provider CUDA, allowed here: numpy"):
        ask_runner({**asks(folder), "model": {**model(folder), "provider": "CUDA"}})


def test_more_tokens_than_a_model_has_positions_for_are_one_message() -> None:
    pytest.importorskip("torch", reason="needs edgetf[compress]")
    from exported import exported

    from edgetf.validation.golden import deployable_model

    record = deployable_model(exported("bert").artifact).to_json()
    request = {"do": "bench", "models": [record], "threads": 1, "samples": 30, "seq_len": 4096, "text": ""}
    with pytest.raises(ParityError, match="onnxruntime cannot run 4096 tokens .*; give fewer"):
        ask_runner(request)
