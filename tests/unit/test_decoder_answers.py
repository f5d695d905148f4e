"""The runner answers for decoders as they answer here, and on a board from the model file alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from tiny_decoder import FACTS, POSITIONS, artifact, exported, fake, fake_folder, text_ids

from edgetf.core.device import load_device
from edgetf.core.errors import ArtifactError, ConfigError, DeviceError, EdgetfError
from edgetf.core.files import file_sha256
from edgetf.runtime.decode.arrays import packed, unpacked
from edgetf.runtime.decode.generate import generate
from edgetf.runtime.decode.model import DecoderModel, decoder_model
from edgetf.runtime.decode.sampling import Sampling
from edgetf.runtime.decode.score import score
from edgetf.runtime.decode.stream import score_stream
from edgetf.runtime.decode.streaming import Window
from edgetf.targets.local import ask_runner
from edgetf.targets.parcel import pack
from edgetf.targets.target import open_target

pytest.importorskip("tokenizers", reason="needs edgetf[ort]")
BLOCKS = np.stack([text_ids(20, seed) for seed in range(3)]).astype(np.int32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DecoderModel:
    return DecoderModel("m", fake_folder(tmp_path_factory.mktemp("model")), "model.json", "fake", FACTS)


def asks(model: DecoderModel, do: str, **rest: Any) -> dict[str, Any]:
    return {"do": do, "model": model.to_json(), "threads": 1, **rest}


def timed(*models: DecoderModel, **rest: Any) -> dict[str, Any]:
    records = [model.to_json() for model in models]
    return {"do": "decode_bench", "models": records, "threads": 1, "contexts": [8, 32], "samples": 30, **rest}


def test_a_model_travels_as_json_and_comes_back_the_same(model: DecoderModel) -> None:
    assert DecoderModel.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_generated_tokens_are_those_of_here(model: DecoderModel) -> None:
    prompts = [text_ids(5, seed).tolist() for seed in range(3)]
    how = {"temperature": 0.9, "top_p": 0.9, "seed": 4}
    answer = ask_runner(asks(model, "generate", prompts=prompts, max_new_tokens=12, sampling=how, stop_ids=[]))
    wanted = [list(generate(fake(), prompt, Sampling(**how), 12, stop_ids=())) for prompt in prompts]  # type: ignore[arg-type]
    assert answer["tokens"] == wanted
    assert answer["peak_rss_bytes"] > 1 << 20 and answer["load_ms"] > 0 and answer["backend"]["ran"] == "numpy"


def test_generation_through_a_window_needs_one(model: DecoderModel) -> None:
    prompt = [text_ids(POSITIONS + 50).tolist()]
    answer = ask_runner(asks(model, "generate", prompts=prompt, max_new_tokens=3, stop_ids=[], window={"size": 64}))
    assert len(answer["tokens"][0]) == 3
    with pytest.raises(EdgetfError, match="without a window"):
        ask_runner(asks(model, "generate", prompts=prompt, max_new_tokens=3))


def test_scores_are_those_of_here_to_the_last_bit(model: DecoderModel) -> None:
    teacher = score(fake(seed=1), BLOCKS, keep=4).top
    assert teacher is not None
    arrays = packed({"blocks": BLOCKS, "top_ids": teacher.ids, "top_logprobs": teacher.logprobs})
    found = unpacked(ask_runner(asks(model, "score", arrays=arrays, keep=2))["arrays"])
    wanted = score(fake(), BLOCKS, teacher, keep=2)
    assert wanted.top is not None
    for name, array in {"nll": wanted.nll, "argmax": wanted.argmax, "kl": wanted.kl, "top_ids": wanted.top.ids}.items():
        np.testing.assert_array_equal(found[name], array)
    assert set(unpacked(ask_runner(asks(model, "score", arrays=packed({"blocks": BLOCKS})))["arrays"])) == {
        "nll", "argmax",
    }  # fmt: skip


def test_a_stream_is_scored_with_its_memory(model: DecoderModel) -> None:
    ids = text_ids(400)
    answer = ask_runner(asks(model, "score_stream", arrays=packed({"ids": ids}), window={"size": 64, "sinks": 2}))
    wanted = score_stream(fake(), ids, Window(64, 2))
    np.testing.assert_allclose(unpacked(answer["arrays"])["nll"], wanted.nll, rtol=1e-6)
    assert len(answer["rss_bytes"]) == len(wanted.rss_bytes)
    with pytest.raises(EdgetfError, match="got no window"):
        ask_runner(asks(model, "score_stream", arrays=packed({"ids": ids})))


def test_arrays_that_are_none_are_one_message(model: DecoderModel) -> None:
    for text in ("no base64!", "bm8gbnB6"):
        with pytest.raises(EdgetfError, match="arrays: not an .npz"):
            ask_runner(asks(model, "score", arrays=text))


def test_each_context_is_timed_for_reading_and_writing(model: DecoderModel) -> None:
    answer = ask_runner(timed(model, text="once upon a time"))
    (found,) = answer["models"]
    assert [each["context"] for each in found["contexts"]] == [8, 32]
    for each in found["contexts"]:
        assert len(each["decode_ms"]) == 30 and min(each["decode_ms"]) > 0 and len(each["prefill_ms"]) == 5
        assert each["prefill_tokens_per_second"] == pytest.approx(
            each["context"] / each["time_to_first_token_ms"] * 1e3
        )
        assert each["decode_tokens_per_second"] == pytest.approx(1e3 / np.median(each["decode_ms"]), rel=0.05)
        assert isinstance(each["doubts"], list)
    assert found["load_ms"] > 0 and answer["peak_rss_bytes"] > 1 << 20 and answer["conditions"]["cores"]


def test_two_models_take_turns_and_share_no_peak_memory(model: DecoderModel) -> None:
    answer = ask_runner(timed(model, model, prefills=2))
    assert answer["peak_rss_bytes"] is None and len(answer["models"]) == 2
    assert all(len(each["contexts"][0]["prefill_ms"]) == 2 for each in answer["models"])


def test_a_context_longer_than_the_model_is_refused(model: DecoderModel) -> None:
    with pytest.raises(EdgetfError, match=f"context: got 513 tokens, m has positions for {POSITIONS}") as caught:
        ask_runner({**timed(model), "contexts": [8, 513]})
    assert caught.value.exit_code == ConfigError.exit_code


def test_on_a_board_the_model_file_is_enough(model: DecoderModel, tmp_path: Path) -> None:
    board = tmp_path / "board"
    asked = asks(model, "generate", prompts=[text_ids(5).tolist()], max_new_tokens=9)
    parcel = pack(asked, PurePosixPath(board))
    digest = file_sha256(model.path)
    assert parcel.files == {PurePosixPath(board / f"{digest[:16]}.json"): model.path}
    for place, path in parcel.files.items():
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    assert ask_runner(parcel.request)["tokens"] == ask_runner(asked)["tokens"]
    (place,) = map(Path, parcel.files)
    place.write_text('{"seed": 1}')
    with pytest.raises(ArtifactError, match="its bytes are not those that were sent"):
        ask_runner(parcel.request)


def test_a_timed_text_travels_as_its_tokens(model: DecoderModel) -> None:
    sent = pack(timed(model, text="once upon"), PurePosixPath("/board")).request
    assert sent["text"] == "" and tuple(sent["models"][0]["timed_ids"]) == model.text_ids("once upon") != ()


def test_an_emulated_processor_gives_no_milliseconds(model: DecoderModel) -> None:
    with pytest.raises(DeviceError, match="no milliseconds"):
        open_target(load_device("emulated_a72")).ask(timed(model))


def test_an_artifact_says_how_it_is_run(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs edgetf[compress]")
    sealed = artifact(exported("llama"), tmp_path / "onnx-fp32")
    found = decoder_model(sealed)
    assert (found.name, found.backend, found.decoder) == ("onnx-fp32", "ort", exported("llama").facts)
    ids = text_ids(6).tolist()
    answer = ask_runner(asks(found, "generate", prompts=[ids], max_new_tokens=20))
    assert answer["tokens"] == [list(generate(exported("llama").session(), ids, max_new_tokens=20))]


@pytest.mark.parametrize(
    ("kind", "details", "words"),
    [("torch", {"decoder": FACTS.to_json()}, "give an exported variant"), ("onnx", {}, "no whole `decoder`"),
     ("onnx", {"decoder": {"vocab_size": 3}}, "no whole `decoder`")],
)  # fmt: skip
def test_what_is_no_exported_decoder_is_refused(tmp_path: Path, kind: str, details: dict[str, Any], words: str) -> None:
    from edgetf.core.artifact import Spec, seal

    def write(out: Path) -> tuple[Spec, float]:
        (out / "m").write_text("")
        return Spec(kind, "m", details=details), 0.0

    sealed = seal(tmp_path / "a", stage="export", key="k", parents=(), made={}, write=write)
    with pytest.raises(ArtifactError, match=words):
        decoder_model(sealed)
