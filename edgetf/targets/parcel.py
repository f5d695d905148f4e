"""A request made ready to travel: token ids in place of texts, places on the device in place of folders here.

A device then needs neither a tokenizer nor the artifact's folder, but the model file alone; its sha256 travels along,
and the runner checks it before it opens the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgetf.core.errors import DeviceError
from edgetf.core.files import file_sha256, weights_beside
from edgetf.runtime.decode.model import DecoderModel
from edgetf.runtime.encoder import TOKENIZER
from edgetf.runtime.model import Model
from edgetf.targets.target import Request


@dataclass(frozen=True)
class Parcel:
    """A request as the device gets it, and the files that must be there first, by their place on the device."""

    request: Request
    files: dict[PurePosixPath, Path]


def pack(request: Request, folder: PurePosixPath) -> Parcel:
    """The request for a device that keeps files in `folder`. A file's name there begins with its sha256.

    Raises:
        ArtifactError: a tokenizer or a model file is missing.
        DeviceError: a model is too large for one file.
    """
    sent, files = {**request, "text": ""}, {}
    if "texts" in sent:
        texts, pairs = sent.pop("texts"), sent.pop("pairs", None)
        sent["inputs"] = Model.from_json(request["model"]).encoder().inputs(texts, pairs).to_json()
    moved = [_moved(model_of(record), request.get("text", ""), folder) for record in models_of(request)]
    for model, path in moved:
        files[PurePosixPath(model.path)] = path
    if "models" in request:
        sent["models"] = [model.to_json() for model, _ in moved]
    elif moved:
        sent["model"] = moved[0][0].to_json()
    return Parcel(sent, files)


def models_of(request: Request) -> list[dict[str, Any]]:
    """The models that a request names."""
    return request["models"] if "models" in request else [request["model"]] if "model" in request else []


def model_of(record: dict[str, Any]) -> Model | DecoderModel:
    """A model as a request names it."""
    return DecoderModel.from_json(record) if "decoder" in record else Model.from_json(record)


def _moved(model: Model | DecoderModel, text: str, folder: PurePosixPath) -> tuple[Model | DecoderModel, Path]:
    """The model as it is called on the device, and where it is here."""
    if weights_beside(model.path).is_file():
        raise DeviceError(f"{model.path}: over 2 GB, in two files, and devices take one; take a quantized variant")
    digest = file_sha256(model.path)
    ids = model.timed_ids
    if not ids and text and (model.folder / TOKENIZER).is_file():
        ids = model.text_ids(text)
    name = f"{digest[:16]}{model.path.suffix}"
    return replace(model, folder=Path(folder), model_file=name, timed_ids=ids, sha256=digest), model.path
