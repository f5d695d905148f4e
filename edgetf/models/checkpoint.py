"""Torch checkpoints on disk: config.json, model.safetensors and the tokenizer. Never a pickle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from edgetf.core.artifact import Artifact, key_of
from edgetf.core.errors import ArtifactError, ConfigError, needs
from edgetf.core.quiet import quiet
from edgetf.data.locate import hub_snapshot, is_hub, package_path
from edgetf.models.heads import CLASSIFIER, Head, build, config_fields

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip
_VOCABULARIES = ("vocab.txt", "vocab.json", "*.model")
_PICKLES = ("pytorch_model.bin", "*.pt", "*.pth", "*.ckpt")
_HUB_FILES = ("*.json", "*.txt", "*.safetensors")


def locate_teacher(source: str, revision: str | None = None, config_only: bool = False) -> Path:
    """The local folder of a teacher.

    Raises:
        ArtifactError: there is none, or it holds only a pickle.
    """
    if source.startswith("package:"):
        folder = package_path(source)
    elif is_hub(source):
        folder = hub_snapshot(source, "model", ["config.json"] if config_only else _HUB_FILES, revision)
    else:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise ArtifactError(f"teacher.source: {source} is not a folder; give a folder, hub:OWNER/NAME or package:")
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"teacher.source: {folder} has no config.json; give the folder of a Hugging Face model")
    if not config_only:
        _refuse_unsafe(folder, source)
    return folder


def _refuse_unsafe(folder: Path, source: str) -> None:
    if (folder / WEIGHTS).is_file():
        return
    if (folder / "model.safetensors.index.json").is_file():
        raise ArtifactError(f"teacher.source: {source} has sharded weights; save it as one {WEIGHTS}")
    way = "convert it where you trust it: AutoModelForSequenceClassification.from_pretrained(…).save_pretrained(…)"
    if is_hub(source):
        raise ArtifactError(f"teacher.source: {source} has no {WEIGHTS}, and a pickle is not downloaded; {way}")
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        raise ArtifactError(
            f"teacher.source: {source} has a pickle, which can run code when it is opened, and no {WEIGHTS}; {way}"
        )
    raise ArtifactError(f"teacher.source: {source} has no {WEIGHTS}")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        ArtifactError: not readable, or it wants code of its own to be run.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ArtifactError(f"{path}: names no model_type; give the folder of a Hugging Face model")
    if "auto_map" in config:
        raise ArtifactError(f"{path}: this model needs code of its own (auto_map); edgetf runs no remote code")
    return config


def label_names(config: dict[str, Any]) -> list[str]:
    """The class names of a checkpoint in the order of their ids."""
    names = config.get("id2label") or {}
    return [str(names[key]) for key in sorted(names, key=int)]


def load_classifier(folder: Path, names: list[str] | None = None, head: Head = CLASSIFIER) -> Any:
    """The model of a folder with the head of its task, in eval mode, with eager attention.

    With `names` the head gets these classes: kept where it has as many, made anew where not.

    Raises:
        ArtifactError: the weights do not fit the config, or are damaged.
    """
    with needs("compress"), quiet():
        from safetensors import SafetensorError
        from transformers import AutoConfig

        from edgetf.models.slicing import apply_shapes

    record = read_config(folder)
    labels = {} if names is None else config_fields(names, head)
    try:
        with quiet():  # transformers loads the family's module, and what that brings, only now
            model = build(AutoConfig.from_pretrained(folder, **labels), head)
        apply_shapes(model)
        load_weights(model, folder / WEIGHTS, new_head=names is not None)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
        message = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{folder}: the {record['model_type']} weights cannot be loaded ({message})") from None
    return model.float().eval()


_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # of TensorFlow's norms


def load_weights(model: Any, path: Path, new_head: bool = False) -> None:
    """Put the tensors of a safetensors file into the model; every name and shape of the model must fit.

    With `new_head` only the encoder's must: a head of another shape, and a pooler that the file lacks, stay new. The
    file of a bare encoder names its tensors without the encoder's prefix (``bert.``).

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    from safetensors.torch import load_file

    prefix = f"{model.base_model_prefix}."
    tensors = load_file(path)
    for old, new in _OLD_NAMES.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    if not any(name.startswith(prefix) for name in tensors):
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    left = [name for name in own if name not in fitting]
    if new_head:
        left = [name for name in left if name.startswith(prefix) and ".pooler." not in name]
    if left:
        found = "another shape" if left[0] in tensors else "no tensor"
        raise ValueError(f"{len(left)} of {len(own)} tensors do not fit, e.g. {found} for {left[0]}")
    model.load_state_dict(fitting, strict=False)


def save_classifier(model: Any, folder: Path, tokenizer_from: Path) -> int:
    """Write config.json, model.safetensors and, unless it lies there already, the tokenizer; returns the weights."""
    from edgetf.models.slicing import record_shapes

    record_shapes(model)
    model.save_pretrained(folder, safe_serialization=True)
    if tokenizer_from != folder:
        copy_tokenizer(tokenizer_from, folder)
    return int(sum(parameter.numel() for parameter in model.parameters()))


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files; one that has no `tokenizer.json` is converted.

    Raises:
        ArtifactError: the folder holds no tokenizer that can be used without its Python code.
    """
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (folder / "tokenizer.json").is_file():
        return
    if not any(next(source.glob(pattern), None) for pattern in _VOCABULARIES):  # transformers 5 would make an empty one
        raise ArtifactError(f"{source}: no tokenizer: it has neither tokenizer.json nor a vocabulary")
    from transformers import AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False).save_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:  # TypeError: transformers opens a file whose name is None
        raise ArtifactError(f"{source}: no tokenizer that can be read ({' '.join(str(error).split())[:160]})") from None
    if not (folder / "tokenizer.json").is_file():
        raise ArtifactError(f"{source}: its tokenizer has no fast form (tokenizer.json), which devices need")


def fingerprint_of(checkpoint: Artifact) -> str:
    """What a checkpoint is, the same wherever and whenever it was written; its digest is not."""
    files = {entry.path: entry.sha256 for entry in checkpoint.manifest.files}
    return key_of([files.get(name) for name in ("config.json", WEIGHTS, TOKENIZER_FILES[0])])


def copy_checkpoint(source: Path, folder: Path) -> int:
    """Copy a teacher's config, weights and tokenizer; returns the number of weights."""
    from safetensors import SafetensorError, safe_open

    shutil.copyfile(source / "config.json", folder / "config.json")
    try:
        os.link((source / WEIGHTS).resolve(), folder / WEIGHTS)  # resolved: a hub cache holds symbolic links
    except OSError:
        shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
    copy_tokenizer(source, folder)
    try:
        with safe_open(folder / WEIGHTS, framework="numpy") as tensors:
            names = [name for name in tensors.keys() if not name.endswith("position_ids")]  # noqa: SIM118
            shapes = [tensors.get_slice(name).get_shape() for name in names]
    except SafetensorError as error:
        raise ArtifactError(f"{source / WEIGHTS}: not a safetensors file ({error}); download it again") from None
    return sum(_product(shape) for shape in shapes)


def _product(shape: list[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def align_labels(teacher: list[str], data: list[str]) -> list[int]:
    """For every class of the data, its id in a teacher that already has a head.

    >>> align_labels(["sports", "business"], ["business", "sports"])
    [1, 0]

    Raises:
        ConfigError: the classes are not the same.
    """
    known = {name.casefold(): k for k, name in enumerate(teacher)}
    if set(known) == {name.casefold() for name in data}:
        return [known[name.casefold()] for name in data]
    unnamed = all(name.upper() == f"LABEL_{k}" for k, name in enumerate(teacher))
    if unnamed and len(teacher) == len(data):
        return list(range(len(data)))
    raise ConfigError(
        f"teacher: its classes are {', '.join(teacher)}, those of the data {', '.join(data)}; "
        "add a finetune stage, or data with the teacher's classes"
    )
