"""What is known of a teacher before it is read: the bytes of its weights, and how large it is."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgetf.config.language.models import Pretrained
from edgetf.core.artifact import key_of
from edgetf.core.files import file_sha256
from edgetf.models.decoders.configs import open_config
from edgetf.models.decoders.gguf import find_gguf, gguf_shape, gguf_size, is_gguf
from edgetf.models.decoders.locate import locate_decoder
from edgetf.models.decoders.shapes import DecoderShape, shape_of
from edgetf.models.decoders.sizes import DecoderSize, config_size


def teacher_size(teacher: Pretrained) -> DecoderSize:
    """How large it is, read from its config, or from the head of its .gguf file; no weights are fetched from a hub.

    Raises:
        ArtifactError: there is none, or its family is not known here.
        DeviceError: a package is not installed.
    """
    if is_gguf(teacher.source):
        with tempfile.TemporaryDirectory() as scratch:
            return gguf_size(find_gguf(teacher.source, Path(scratch)))
    return config_size(locate_decoder(teacher.source, teacher.revision, config_only=True))


def teacher_shape(teacher: Pretrained) -> tuple[str, DecoderShape]:
    """Its family and its shape, which pruning by ratios starts from; no weights are fetched from a hub.

    Raises:
        ArtifactError: there is none, or its family is not known here.
        DeviceError: a package is not installed.
    """
    if is_gguf(teacher.source):
        with tempfile.TemporaryDirectory() as scratch:
            return gguf_shape(find_gguf(teacher.source, Path(scratch)))
    config = open_config(locate_decoder(teacher.source, teacher.revision, config_only=True))
    return str(config.model_type), shape_of(config)


def teacher_fingerprint(teacher: Pretrained) -> str:
    """sha256 of the weights and what describes them.

    Raises:
        ArtifactError: there is none, or only a pickle.
        DeviceError: a package is not installed.
    """
    if is_gguf(teacher.source):
        with tempfile.TemporaryDirectory() as scratch:
            return file_sha256(find_gguf(teacher.source, Path(scratch)))
    folder = locate_decoder(teacher.source, teacher.revision)
    files = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".json"} and path.is_file())
    return key_of({path.name: file_sha256(path) for path in files if path.name != "manifest.json"})
