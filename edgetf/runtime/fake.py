"""A backend that needs no runtime: its "model" is a JSON table of weights. It passes the same contract suite.

The logits of a row are the sums over its unmasked ids: ``logits[c] = bias[c] + mean_t weight[id_t mod V][c]``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgetf.core.errors import ArtifactError
from edgetf.core.metrics import Floats
from edgetf.runtime.backend import Engine, Session, lacks_provider
from edgetf.runtime.inputs import Batch


class FakeSession:
    """A bag of words with weights of shape (V, C) and a bias of shape (C,)."""

    input_names: tuple[str, ...] = ("input_ids", "attention_mask")
    lengths: tuple[int, ...] | None = None

    def __init__(self, weight: Floats, bias: Floats) -> None:
        self._weight, self._bias = weight, bias
        self.engine = Engine(asked="numpy", ran="numpy")

    def run(self, batch: Batch) -> Floats:
        """Logits (B, C)."""
        rows = self._weight[batch.input_ids % len(self._weight)]  # (B, T, C)
        mask = batch.attention_mask[:, :, None]
        return np.asarray((rows * mask).sum(axis=1) / mask.sum(axis=1) + self._bias)


class FakeBackend:
    """Opens .json files with the fields `weight` and `bias`."""

    name = "fake"

    def load(self, model: Path, threads: int, provider: str | None = None) -> Session:
        """See `Backend.load`; `threads` changes nothing."""
        if provider not in (None, "numpy"):
            raise lacks_provider(self.name, provider, ["numpy"])
        try:
            record = json.loads(model.read_text(encoding="utf-8"))
            return FakeSession(np.asarray(record["weight"], float), np.asarray(record["bias"], float))
        except FileNotFoundError:
            raise ArtifactError(f"{model}: not found") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{model}: not a fake model ({error})") from None
