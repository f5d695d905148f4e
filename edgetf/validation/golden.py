"""`golden.jsonl`: text → ids → logits, by which an app or another machine tells that it runs the same model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetf.core.artifact import Artifact
from edgetf.core.errors import ArtifactError, ParityError
from edgetf.core.files import read_lines
from edgetf.core.metrics import Floats, cosine, stacked
from edgetf.core.schemes import Runtime
from edgetf.core.support import HERE
from edgetf.core.task_names import CLASSIFICATION
from edgetf.runtime.inputs import Piece
from edgetf.runtime.model import Model
from edgetf.targets.local import ask_runner
from edgetf.targets.target import Ask
from edgetf.tasks import task_of

GOLDEN = "golden.jsonl"
PARITY_FP32 = 1e-4  # largest difference of a logit, runtime against torch
COSINE_FP32_TO_INT8 = 0.975  # quantized logits against torch, over all golden rows; trained models have 0.99
GROWTH_FP32_TO_INT8 = 1.5  # … how many times as large or small they may be: a broken scale leaves the cosine at 1
COSINE_SAME_FILE = 0.99  # the same INT8 file on another instruction set
GROWTH_SAME_FILE = 1.25  # … how many times as large or small its answers may be there, which a cosine does not see
ROWS = 32


@dataclass(frozen=True)
class Golden:
    """Columns of the golden rows; logits have shape (N, C)."""

    texts: list[str]
    pairs: list[str] | None
    torch_logits: Floats
    logits: Floats


def write_golden(
    folder: Path,
    texts: list[str],
    pairs: list[str] | None,
    pieces: list[list[Piece]],
    torch_logits: Sequence[Floats] | Floats,
    logits: Sequence[Floats] | Floats,
    output: str = "logits",
) -> None:
    """Write the file; `logits` come from the runtime, `torch_logits` from the checkpoint, both (N, C) or, where
    every word has an answer, (words, C) a text. `output` is what the task calls them.
    """
    with (folder / GOLDEN).open("w", encoding="utf-8") as stream:
        for row, text in enumerate(texts):
            record: dict[str, Any] = {"text": text}
            if pairs is not None:
                record["text_pair"] = pairs[row]
            record["input_ids"] = [piece.input_ids for piece in pieces[row]]
            record["token_type_ids"] = [piece.token_type_ids for piece in pieces[row]]
            if any(piece.words for piece in pieces[row]):
                record["words"] = [piece.words for piece in pieces[row]]
            record[output] = logits[row].tolist()
            record[f"torch_{output}"] = torch_logits[row].tolist()
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_golden(folder: Path, output: str = "logits") -> Golden:
    """Read the file, whose task calls its answers so.

    Raises:
        ArtifactError: missing or broken.
    """
    path = folder / GOLDEN
    rows = read_lines(path)
    try:
        pairs = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
        return Golden(
            [row["text"] for row in rows],
            pairs,
            stacked([row[f"torch_{output}"] for row in rows]),
            stacked([row[output] for row in rows]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the recipe again") from None


def golden_of(artifact: Artifact) -> Golden:
    """The golden rows of an artifact."""
    return read_golden(artifact.path, task_of(artifact.spec.details.get("task", CLASSIFICATION)).output)


def deployable_model(artifact: Artifact, runtime: Runtime | None = None) -> Model:
    """What the runner needs to know of an artifact; `runtime` opens it, if not the one that checks such files here.

    Raises:
        ArtifactError: it is a torch checkpoint, and no runtime is given that runs those.
    """
    if runtime is None and artifact.spec.kind not in HERE:
        raise ArtifactError(f"{artifact.path}: a {artifact.spec.kind} artifact does not run; give an exported variant")
    details = artifact.spec.details
    try:
        return Model(
            name=artifact.manifest.name,
            folder=artifact.path,
            model_file=artifact.spec.model_file,
            backend=runtime or HERE[artifact.spec.kind],  # type: ignore[index]
            max_length=details["max_length"],
            long_texts=details["long_texts"],
            pad_id=details["pad_id"],
            task=details.get("task", CLASSIFICATION),
        )
    except KeyError as error:
        raise ArtifactError(f"{artifact.path}: its manifest lacks {error} in `details`; make it again") from None


def runtime_logits(
    model: Model, texts: list[str], pairs: list[str] | None, threads: int = 1, ask: Ask = ask_runner
) -> dict[str, Any]:
    """The answer for these texts of the runner here, or of the one that `ask` reaches."""
    return ask(
        {
            "do": "classify",
            "model": model.to_json(),
            "threads": threads,
            "texts": texts,
            "pairs": pairs,
        }
    )


def runtime_shifts(model: Model, texts: list[str], pairs: list[str] | None) -> dict[str, float | None]:
    """How far answers move with their batch mates and with padding, see `edgetf.runtime.invariance`."""
    request = {"do": "invariance", "model": model.to_json(), "threads": 1}
    answer = ask_runner({**request, "texts": texts, "pairs": pairs})
    return {name: answer[name] for name in ("batch", "padding")}


def torch_parity(name: str, scheme: str, torch_logits: Floats, logits: Floats) -> dict[str, float]:
    """Hold a file's logits against those of the torch checkpoint it was made from, both (N, C).

    Raises:
        ParityError: fp32 differs by more than 1e-4, or a quantized file points elsewhere or answers in another size.
    """
    difference = float(np.abs(torch_logits - logits).max())
    similarity = float(cosine(torch_logits.reshape(1, -1), logits.reshape(1, -1))[0])
    if scheme == "fp32" and not difference <= PARITY_FP32:  # NaN is no parity
        raise ParityError(f"{name}: logits differ from torch by {difference:.2g}, allowed: {PARITY_FP32:g}")
    if scheme != "fp32" and not similarity >= COSINE_FP32_TO_INT8:
        raise ParityError(
            f"{name}: cosine {similarity:.3f} with the logits of torch, allowed: {COSINE_FP32_TO_INT8} or more; "
            "quantization broke this model"
        )
    growth = _growth(torch_logits, logits)
    if scheme != "fp32" and not _within(growth, GROWTH_FP32_TO_INT8):
        raise ParityError(
            f"{name}: logits {growth:.3g} times as large as those of torch, allowed: {1 / GROWTH_FP32_TO_INT8:.2f} to "
            f"{GROWTH_FP32_TO_INT8}; a scale of this file is broken"
        )
    return {"max_abs_difference": difference, "cosine": similarity}


def same_file_parity(scheme: str, golden: Floats, logits: Floats) -> str | None:
    """Why a file does not answer as when it was made, or None; both arrays (N, C)."""
    if scheme == "fp32":
        difference = float(np.abs(golden - logits).max())
        return None if difference <= PARITY_FP32 else f"parity: logits moved by {difference:.2g} since it was made"
    if np.array_equal(golden, logits):
        return None
    if golden.shape[1] == 1:  # the sign of a single number says nothing; the texts together do
        golden, logits = golden.T, logits.T
    golden, logits = golden - golden.mean(), logits - logits.mean()
    lowest = float(cosine(golden, logits).min())
    if not lowest >= COSINE_SAME_FILE:
        return f"parity: cosine {lowest:.3f} with the golden logits"
    growth = _growth(golden, logits)
    if not _within(growth, GROWTH_SAME_FILE):
        return f"parity: the logits are {growth:.2g} times as large as the golden ones"
    return None


def _growth(before: Floats, after: Floats) -> float:
    """How many times as large an array of answers is as another; 1 where both are all zeros."""
    sizes = [float(np.linalg.norm(answers)) for answers in (before, after)]
    return 1.0 if not any(sizes) else sizes[1] / sizes[0] if sizes[0] else float("inf")


def _within(growth: float, most: float) -> bool:
    """Whether answers grew or shrank no more than so many times; NaN did not."""
    return 1 / most <= growth <= most
