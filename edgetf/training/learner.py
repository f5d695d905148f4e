"""A student with what it needs only while it learns: taps on its states, and projections to the teacher's widths.

The projections are trained with the student and left behind when it is saved. They are one linear layer for all hidden
states and one for the embedding, as TinyBERT (Jiao et al. 2020) has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from edgetf.models.families import family_of
from edgetf.models.slicing import layers_of
from edgetf.training.batches import TensorBatch
from edgetf.training.taps import Taps


class Learner(nn.Module):
    """The student and its projections as one model to train.

    `widths` gives, for each kind of signal (``hidden``, ``embedding``) to be projected, the teacher's width; ``pooled``
    is the answer where that is a vector of another width than the teacher's.
    """

    def __init__(self, student: Any, signals: Iterable[str], widths: Mapping[str, int], hidden_size: int) -> None:
        super().__init__()
        self.student = student
        self.projections = nn.ModuleDict({kind: nn.Linear(hidden_size, width) for kind, width in widths.items()})
        self._taps = Taps(student, signals)
        self._token_types = family_of(student.config.model_type).takes_token_types
        self._start: int | None = None
        self._cuts = [layer.register_forward_pre_hook(self._cut(k)) for k, layer in enumerate(layers_of(student))]

    def _cut(self, number: int) -> Any:
        """Let no gradient pass below a layer that learns alone."""

        def detach(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if number != self._start or not arguments:
                return None
            return (arguments[0].detach(), *arguments[1:])

        return detach

    def forward(self, batch: TensorBatch, only_layer: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, C), or (B, T, C) of every token, and the student's signals, projected.

        With `only_layer` nothing below that layer learns.
        """
        self._start = only_layer
        logits = self.student(**batch.inputs(self._token_types)).logits
        signals = {name: self._project(name, states) for name, states in self._taps.last.items()}
        if "pooled" in self.projections:
            signals["pooled"] = self._project("pooled", logits)
        return logits, signals

    def _project(self, name: str, states: Tensor) -> Tensor:
        kind = name.partition(".")[0]
        projected: Tensor = self.projections[kind](states) if kind in self.projections else states
        return projected

    def get_input_embeddings(self) -> nn.Module:
        """The student's word embedding."""
        words: nn.Module = self.student.get_input_embeddings()
        return words

    def close(self) -> None:
        """Take everything off the student that is only for learning."""
        self._taps.close()
        for hook in self._cuts:
            hook.remove()
