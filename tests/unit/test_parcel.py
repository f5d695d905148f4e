"""A request that travels gets the same answers without a tokenizer there, and only from the right bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from tiny import tiny_tokenizer

from edgetf.core.errors import ArtifactError, DeviceError
from edgetf.core.files import file_sha256, weights_beside
from edgetf.runtime.model import Model
from edgetf.targets.local import ask_runner
from edgetf.targets.parcel import Parcel, pack

pytest.importorskip("tokenizers", reason="needs edgetf[ort]")
TEXTS = ["bank shares", "goal match", "rain storm cloud " * 12]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fake model with its tokenizer."""
    path = tmp_path / "here"
    path.mkdir()
    tiny_tokenizer(path)
    weight = np.random.default_rng(2).normal(size=(200, 3))
    (path / "model.json").write_text(json.dumps({"weight": weight.tolist(), "bias": [0, 0, 0]}))
    return path


def request(folder: Path, **how: Any) -> dict[str, Any]:
    model = Model("m", folder, "model.json", "fake", max_length=16, **how)
    return {"do": "classify", "model": model.to_json(), "threads": 1, "texts": TEXTS, "pairs": None}


def unpacked(parcel: Parcel) -> Parcel:
    """The parcel with its files where it says."""
    for place, path in parcel.files.items():
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return parcel


def test_a_model_in_two_files_is_refused(folder: Path, tmp_path: Path) -> None:
    weights_beside(folder / "model.json").write_bytes(b"weights")
    with pytest.raises(DeviceError, match="over 2 GB, in two files, .* take a quantized variant"):
        pack(request(folder), PurePosixPath(tmp_path / "board"))


@pytest.mark.parametrize("how", [{}, {"long_texts": "chunk"}, {"task": "token_classification"}, {"pad_id": 3}])
def test_the_answers_are_those_of_here(folder: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    parcel = unpacked(pack(request(folder, **how), PurePosixPath(tmp_path / "board")))
    assert [path.suffix for path in (tmp_path / "board").iterdir()] == [".json"]  # the model file alone
    assert ask_runner(parcel.request)["logits"] == ask_runner(request(folder, **how))["logits"]


def test_pairs_travel_as_one_input(folder: Path, tmp_path: Path) -> None:
    asked = {**request(folder), "pairs": TEXTS[::-1]}
    parcel = unpacked(pack(asked, PurePosixPath(tmp_path / "board")))
    assert ask_runner(parcel.request)["logits"] == ask_runner(asked)["logits"]


def test_a_timed_input_is_made_of_the_same_ids(folder: Path, tmp_path: Path) -> None:
    record = request(folder)["model"]
    asked = {"do": "bench", "models": [record], "threads": 1, "samples": 30, "seq_len": 9, "text": TEXTS[0]}
    sent = pack(asked, PurePosixPath(tmp_path / "board")).request
    words = Model.from_json(record).encoder().pieces([TEXTS[0]])[0][0].input_ids
    assert (sent["models"][0]["timed_ids"], sent["text"]) == (tuple(words), "")


def test_a_file_is_named_by_its_bytes(folder: Path, tmp_path: Path) -> None:
    parcel = pack(request(folder), PurePosixPath("/board"))
    digest = file_sha256(folder / "model.json")
    assert parcel.files == {PurePosixPath(f"/board/{digest[:16]}.json"): folder / "model.json"}
    assert parcel.request["model"]["sha256"] == digest


def test_other_bytes_are_not_opened(folder: Path, tmp_path: Path) -> None:
    parcel = unpacked(pack(request(folder), PurePosixPath(tmp_path / "board")))
    (place,) = map(Path, parcel.files)
    place.write_text(place.read_text().replace("1", "2", 1))
    with pytest.raises(ArtifactError, match="its bytes are not those that were sent"):
        ask_runner(parcel.request)


def test_a_request_is_left_as_it_was(folder: Path) -> None:
    asked = request(folder)
    before = json.dumps(asked)
    pack(asked, PurePosixPath("/board"))
    assert json.dumps(asked) == before
