"""A decoder in a GGUF file, made a Hugging Face folder: its blocks of integers as float32, its tokenizer as JSON.

transformers gives every tensor its name and its order (rows of Llama's query and key stand otherwise there, Gemma's
norms have one added). What it passes over is made here, or refused: the tokenizer, and scaled positions.

The file may lie in an installed distribution, also cut into ``NAME.part00``, ``NAME.part01``, … which the distribution
and those that it requires hold. It is then put together, and must have the sha256 that a SHA256SUMS there says.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetf.core.errors import ArtifactError, DeviceError, needs
from edgetf.core.files import file_sha256, guard_disk
from edgetf.core.quiet import quiet
from edgetf.models.decoders.checkpoint import save_decoder
from edgetf.models.decoders.configs import FAMILIES
from edgetf.models.decoders.gguf_rope import FACTORS, llama3_rule
from edgetf.models.decoders.gguf_tokenizer import write_tokenizer
from edgetf.models.decoders.shapes import DecoderShape
from edgetf.models.decoders.sizes import DecoderSize

SUFFIX = ".gguf"
EMBEDDING = "token_embd.weight"
_TOKENIZER_FIELDS = "tokenizer.ggml."
_ARCHITECTURES = {family.removesuffix("_text"): family for family in FAMILIES}


def is_gguf(source: str) -> bool:
    """Whether a teacher's source names a .gguf file."""
    return source.lower().endswith(SUFFIX)


def find_gguf(source: str, scratch: Path) -> Path:
    """The file behind a path or ``package:DISTRIBUTION/NAME.gguf``; one in parts is put together in `scratch`.

    Raises:
        ArtifactError: there is none, or its sha256 is another.
        DeviceError: the distribution, or one with a part, is not installed.
    """
    if not source.startswith("package:"):
        path = Path(source).expanduser()
        if not path.is_file():
            raise ArtifactError(f"teacher.source: {source} is not a file; give the path of a .gguf file")
        return path
    name, _, inside = source.removeprefix("package:").partition("/")
    files = list(_files(_installed(name, source)))
    whole = [path for path in files if path.as_posix().endswith(f"/{inside}") and path.is_file()]
    if whole:
        return whole[0]
    title = Path(inside).name
    parts = {path.name: path for path in files if re.fullmatch(re.escape(title) + r"\.part\d+", path.name)}
    if not parts:
        raise ArtifactError(f"teacher.source: {name} has no {inside}, nor parts of it; see: pip show -f {name}")
    joined = scratch / title
    with guard_disk(joined), joined.open("wb") as out:
        for part in sorted(parts):
            with parts[part].open("rb") as piece:
                shutil.copyfileobj(piece, out, 1 << 20)
    wanted = _listed_sha256(files, title)
    if wanted is None:
        raise ArtifactError(f"teacher.source: {name} has parts of {title} without SHA256SUMS, so nobody can check them")
    if file_sha256(joined) != wanted:
        raise ArtifactError(f"teacher.source: {title}, put together from {name}, has another sha256; install it again")
    return joined


def _installed(name: str, source: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise DeviceError(f"{source}: {name} is not installed; run: pip install {name}") from None


def _files(dist: Distribution) -> Iterator[Path]:
    """The files of a distribution and of those that it requires."""
    required = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in dist.requires or () if "extra ==" not in line]
    for each in [dist, *(_installed(name, dist.metadata["Name"]) for name in required)]:
        yield from (Path(str(each.locate_file(file))) for file in each.files or ())


def _listed_sha256(files: list[Path], title: str) -> str | None:
    for path in files:
        if path.name == "SHA256SUMS" and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                digest, _, name = line.partition(" ")
                if name.lstrip(" *") == title:
                    return digest.lower()
    return None


def gguf_size(file: Path) -> DecoderSize:
    """How large the model in the file is, whose head alone is read.

    Raises:
        ArtifactError: not a GGUF file.
        DeviceError: the package that reads it is missing.
    """
    shapes = {name: shape for name, shape in _read(file).shapes.items() if name != FACTORS}
    if EMBEDDING not in shapes:
        raise ArtifactError(f"{file}: has no {EMBEDDING}, so that it holds no language model")
    hidden_size, vocab_size = shapes[EMBEDDING]
    return DecoderSize(sum(prod(shape) for shape in shapes.values()), vocab_size, hidden_size)


def gguf_shape(file: Path) -> tuple[str, DecoderShape]:
    """The family of the model in the file, and its shape, which pruning by ratios starts from.

    Raises:
        ArtifactError: not a GGUF file, or of a model that is not known here.
        DeviceError: the package that reads it is missing.
    """
    head = _read(file)
    _refuse(head, file)
    fields = head.fields
    kind = str(fields["general.architecture"])
    queries = int(fields[f"{kind}.attention.head_count"])
    groups = int(fields.get(f"{kind}.attention.head_count_kv", queries))
    return _ARCHITECTURES[kind], DecoderShape(
        layers=int(fields[f"{kind}.block_count"]),
        groups=groups,
        heads=queries // groups,
        neurons=int(fields[f"{kind}.feed_forward_length"]),
        hidden=int(fields[f"{kind}.embedding_length"]),
    )


class _Head(NamedTuple):
    """The shape of every tensor, innermost first, the fields, and the factors (D / 2) that slow pairs of channels."""

    shapes: dict[str, list[int]]
    fields: dict[str, Any]
    factors: NDArray[np.float32] | None

    def rule(self) -> dict[str, Any] | None:
        """How these factors come about, as a config has it; None: by no rule that is known here."""
        theta = self.fields.get(f"{self.fields.get('general.architecture')}.rope.freq_base")
        return None if self.factors is None or theta is None else llama3_rule(self.factors, float(theta))


def _read(file: Path) -> _Head:
    """What the file says beside its weights.

    Raises:
        ArtifactError: not a GGUF file.
        DeviceError: the package that reads it is missing.
    """
    with needs("gguf"):
        import gguf
    try:
        reader = gguf.GGUFReader(file)
        shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
        factors = next((np.array(tensor.data) for tensor in reader.tensors if tensor.name == FACTORS), None)
        return _Head(shapes, {name: field.contents() for name, field in reader.fields.items()}, factors)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ArtifactError(f"{file}: not a GGUF file ({' '.join(str(error).split())[:160]})") from None


def convert_gguf(file: Path, folder: Path) -> int:
    """Write config, weights and tokenizer of the file into the folder; returns the number of weights.

    Raises:
        ArtifactError: not a GGUF file, or of a model that is not known here.
        DeviceError: the package that reads it is missing.
    """
    head = _read(file)
    _refuse(head, file)
    with needs("compress"), quiet():
        import torch
        from transformers import AutoModelForCausalLM
    try:
        with quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
            )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        message = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{file}: transformers cannot read it ({message}); give a Hugging Face folder") from None
    model.hf_quantizer = None  # transformers 5 takes what it has made floats for integers still, and would not save it
    vars(model.config).pop("quantization_config", None)
    model.config._name_or_path = ""
    if (rule := head.rule()) is not None:
        _slow(model.config, rule)
    start = len(_TOKENIZER_FIELDS)
    fields = {name[start:]: it for name, it in head.fields.items() if name.startswith(_TOKENIZER_FIELDS)}
    write_tokenizer(fields, folder)
    return save_decoder(model, folder, folder)


def _slow(config: Any, rule: dict[str, Any]) -> None:
    """Let a config have a rule for its positions; transformers 5 keeps it beside their base."""
    held = getattr(config, "rope_parameters", None)
    if held is None:
        config.rope_scaling = rule
    else:
        config.rope_parameters = {**held, **rule}


def _refuse(head: _Head, file: Path) -> None:
    """What would come out as another model without a word."""
    fields = head.fields
    kind = fields.get("general.architecture")
    if kind not in _ARCHITECTURES:
        raise ArtifactError(f"{file}: got architecture {kind}, allowed: {', '.join(_ARCHITECTURES)}")
    unknown = head.factors is not None and head.rule() is None
    if unknown or fields.get(f"{kind}.rope.scaling.type", "none") != "none":
        raise ArtifactError(
            f"{file}: got scaled positions, of which only Llama 3.1's are known here; give a Hugging Face folder"
        )
    if fields.get(f"{_TOKENIZER_FIELDS}model") not in ("llama", "gpt2"):
        got = fields.get(f"{_TOKENIZER_FIELDS}model")
        raise ArtifactError(f"{file}: got a tokenizer of kind {got}, allowed: llama, gpt2; give a Hugging Face folder")
