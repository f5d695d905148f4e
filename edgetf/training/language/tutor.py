"""What a language teacher says of blocks of tokens: live, or its likeliest tokens from the disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgetf.algorithms.divergences import keep_top
from edgetf.core.artifact import Artifact, key_of
from edgetf.core.places import cache_folder
from edgetf.core.progress import Report
from edgetf.data.corpus.blocks import Blocks
from edgetf.models.checkpoint import fingerprint_of
from edgetf.models.decoders.checkpoint import load_decoder
from edgetf.training import processes
from edgetf.training.gather import Arrays, Shelf, fetch
from edgetf.training.language.perplexity import in_batches

_NOTE = "blocks of the teacher's likeliest tokens"


class Tutor:
    """A model that is asked, loaded only where something has to be computed, and run as precisely as a student is."""

    def __init__(self, artifact: Artifact, precision: str = "no") -> None:
        self.artifact, self._precision = artifact, precision

    @property
    def fingerprint(self) -> str:
        """What its answers rest on."""
        return key_of([fingerprint_of(self.artifact), self._precision])

    @cached_property
    def model(self) -> Any:
        """In memory from now on, where this process computes."""
        return load_decoder(self.artifact.path).to(processes.device())

    def logits(self, ids: Tensor) -> Tensor:
        """Behind each token but the last of (B, T): (B, T - 1, V) in float32."""
        half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(self._precision)
        device = processes.device()
        with torch.no_grad(), torch.autocast(device.type, half, enabled=half is not None):
            answer = self.model(input_ids=ids.to(device), use_cache=False)
        logits: Tensor = answer.logits[:, :-1].float()
        return logits


@dataclass(frozen=True)
class Likeliest:
    """The teacher's k likeliest tokens behind each token but the last of N blocks, memory-mapped.

    `top` (N, T - 1, k) float16 are their log probabilities at the temperature, `kept` (N, T - 1, k) the tokens, uint16
    or, of more than 65,536, int32, and `rest` (N, T - 1) float32 the log probability of all others together.
    """

    positions: list[int]  # of the N blocks among those that a training has
    arrays: Arrays

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the blocks at these positions: `top`, `kept` and `rest`."""
        rows = np.searchsorted(self.positions, positions.cpu().numpy())
        kinds = {"top": np.float32, "kept": np.int64, "rest": np.float32}
        found = (torch.from_numpy(self.arrays[name][rows].astype(kind)) for name, kind in kinds.items())
        top, kept, rest = (tensor.to(positions.device) for tensor in found)
        return top, kept, rest


def likeliest(
    tutor: Tutor, blocks: Blocks, positions: list[int], k: int, temperature: float, report: Report
) -> Likeliest:
    """From the cache, where what is missing is written first; keyed by the teacher and these blocks."""
    asked = np.ascontiguousarray(blocks[positions])
    key = key_of([tutor.fingerprint, sha256(asked.tobytes()).hexdigest(), list(asked.shape), k, temperature])
    shelf = Shelf(cache_folder() / "teacher-tokens" / key[:24], len(asked), len(asked))

    def make(rows: range) -> Arrays:
        parts: dict[str, list[Any]] = {"top": [], "kept": [], "rest": []}
        size = tutor.model.config.vocab_size
        kind = np.uint16 if size <= 2**16 else np.int32
        for ids in in_batches(asked[rows.start : rows.stop], size):
            top, kept, rest = keep_top(tutor.logits(ids), k, temperature)
            parts["top"].append(top.half().cpu().numpy())
            parts["kept"].append(kept.cpu().numpy().astype(kind))
            parts["rest"].append(rest.cpu().numpy())
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    return Likeliest(positions, fetch(shelf, make, report, _NOTE))
