"""What export and quantize share: beside the model file go its config, tokenizer and golden answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from edgetf.core.artifact import Artifact
from edgetf.core.files import read_json, write_json
from edgetf.core.metrics import Floats
from edgetf.core.schemes import Format, Scheme
from edgetf.core.support import HERE
from edgetf.core.task_names import CLASSIFICATION, by_word
from edgetf.models.checkpoint import copy_tokenizer
from edgetf.runtime.model import Model
from edgetf.runtime.words import by_text
from edgetf.tasks import task_of
from edgetf.validation.golden import runtime_logits, torch_parity, write_golden


def _set_length(folder: Path, max_length: int, pad_id: int, fixed: bool) -> None:
    """Let the shipped tokenizer cut where the model does, and pad only where its shapes are fixed.

    A teacher's tokenizer often carries another truncation and padding, which an app would take over unseen.
    """
    path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    if fixed:
        pad_token = tokenizer.id_to_token(pad_id) or "[PAD]"
        tokenizer.enable_padding(length=max_length, pad_id=pad_id, pad_token=pad_token)
    tokenizer.save(str(path))
    if settings.is_file():
        write_json(settings, {**read_json(settings), "model_max_length": max_length})


def finish(
    out: Path,
    source: Artifact,
    kind: Format,
    scheme: Scheme,
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
    _set_length(out, details["max_length"], details["pad_id"], fixed=details["lengths"] is not None)
    model = deployed(out, kind, scheme, model_file, details)
    logits = np.asarray(runtime_logits(model, texts, pairs)["logits"])
    parity = torch_parity(model.name, scheme, torch_logits, logits)
    pieces = model.encoder().pieces(texts, pairs)
    if by_word(model.task):
        rows, torch_rows = by_text(logits, texts), by_text(torch_logits, texts)
    else:
        rows, torch_rows = list(logits), list(torch_logits)
    write_golden(out, texts, pairs, pieces, torch_rows, rows, task_of(model.task).output)
    return {**details, "parity": parity}


def deployed(folder: Path, kind: Format, scheme: Scheme, model_file: str, details: dict[str, Any]) -> Model:
    """What the runner needs to know of a file that is being made."""
    return Model(
        name=f"{kind}-{scheme}",
        folder=folder,
        model_file=model_file,
        backend=HERE[kind],
        max_length=details["max_length"],
        long_texts=details["long_texts"],
        pad_id=details["pad_id"],
        task=details.get("task", CLASSIFICATION),
    )
