"""ONNX files of any size: protobuf holds 2 GB, so that a larger model has its weights in a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetf.core.files import weights_beside

LARGEST_PROTOBUF = 2_000_000_000  # bytes


def save_onnx(model: Any, path: Path) -> None:
    """Write a model as one file, or, if that cannot hold it, with its weights beside it.

    Then what `model` holds are references to that file.
    """
    import onnx

    beside = weights_beside(path)
    beside.unlink(missing_ok=True)  # onnx would write behind what is there
    if sum(item.ByteSize() for item in model.graph.initializer) < LARGEST_PROTOBUF:
        onnx.save(model, str(path))
    else:
        onnx.save(model, str(path), save_as_external_data=True, location=beside.name)
