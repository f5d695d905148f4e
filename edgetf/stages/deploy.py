"""What export and quantize share: beside the model file go its config, tokenizer and golden answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.artifact import Artifact
from edgetf.core.metrics import Floats
from edgetf.models.checkpoint import copy_tokenizer
from edgetf.runtime.classify import Model
from edgetf.validation.golden import runtime_logits, torch_parity, write_golden

BACKENDS = {"onnx": "ort", "tflite": "litert"}


def finish(
    out: Path,
    source: Artifact,
    kind: str,
    scheme: str,
    model_file: str,
    texts: list[str],
    pairs: list[str] | None,
    torch_logits: Floats,
    details: dict[str, Any],
) -> dict[str, Any]:
    """Copy config and tokenizer, ask the runtime for its logits, hold them against torch, write `golden.jsonl`.

    `torch_logits` has shape (N, C). Gives the details of the artifact, its parity among them.

    Raises:
        ParityError: the file does not answer as the checkpoint does.
    """
    shutil.copyfile(source.path / "config.json", out / "config.json")
    copy_tokenizer(source.path, out)
    model = Model(
        name=f"{kind}-{scheme}",
        folder=out,
        model_file=model_file,
        backend=BACKENDS[kind],
        max_length=details["max_length"],
        long_texts=details["long_texts"],
        pad_id=details["pad_id"],
    )
    logits = np.asarray(runtime_logits(model, texts, pairs)["logits"])
    parity = torch_parity(model.name, scheme, torch_logits, logits)
    write_golden(out, texts, pairs, model.encoder().pieces(texts, pairs), torch_logits, logits)
    return {**details, "parity": parity}
