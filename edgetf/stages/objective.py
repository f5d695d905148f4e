"""The distillation objective of a recipe: weighted terms from the teacher's answers, its states, and the labels.

Who gives the answers and the states: see edgetf.stages.outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edgetf.algorithms.distillation import attention_loss, attention_scores, hidden_loss, relation_loss
from edgetf.config.training import LossConfig
from edgetf.core.artifact import Artifact
from edgetf.core.errors import ConfigError
from edgetf.core.task_names import by_word
from edgetf.models.checkpoint import read_config
from edgetf.models.shapes import shape_of
from edgetf.models.slicing import model_shape
from edgetf.stages.context import Context
from edgetf.stages.outputs import Outputs
from edgetf.stages.signals import Pairs, layer_of, relation_names, wanted_signals
from edgetf.stages.transfer import told
from edgetf.training import processes
from edgetf.training.batches import TensorBatch
from edgetf.training.learner import Learner
from edgetf.training.lessons import has_label, known_labels, label_loss, teacher_terms
from edgetf.training.loop import Losses
from edgetf.training.states import States
from edgetf.training.taps import Taps
from edgetf.training.teacher import takes_token_types

Signals = Mapping[str, Tensor]


class Objective:
    """The loss of a recipe for one student; `learner` is what is trained, `rows` what it is trained on."""

    def __init__(self, config: LossConfig, student: Any, source: Artifact, context: Context) -> None:
        self.config, self.head = config, context.head
        encoder = context.encoder(source.path, int(student.config.pad_token_id or 0))
        self.encoder = encoder
        outputs = Outputs(config, encoder, context)
        self.rows, teacher = outputs.rows, outputs.tutor.artifact
        ours, theirs = model_shape(student), shape_of(read_config(teacher.path))
        self.wanted = wanted_signals(config, [x.heads for x in ours.layers], [x.heads for x in theirs.layers])
        self._widths = {"ours": ours.head_width, "theirs": theirs.head_width}
        if config.relations:
            for shape, names in ((ours, self.wanted.student), (theirs, self.wanted.teacher)):
                layer = layer_of(relation_names(names)[-1])
                _check_relations(config, shape.layers[layer].heads * shape.head_width)
        projected = {kind: theirs.hidden_size for kind in ("hidden", "embedding") if getattr(config, kind)}
        if self.head.task == "sentence_embeddings" and ours.hidden_size != theirs.hidden_size:
            projected["pooled"] = theirs.hidden_size
        self.learner = Learner(student, self.wanted.student, projected, ours.hidden_size)
        rows = len(outputs.split)
        self._told = processes.once(lambda: told(context, config.rows, rows)) if config.labels else None
        self._soft = outputs.logits() if config.asks_answers else None
        self._stored: States | None = None
        self._states = self._teacher_states(outputs) if self.wanted.teacher else None

    def _teacher_states(self, outputs: Outputs) -> Callable[[TensorBatch], Signals]:
        if not self.config.cache_states:
            return _live_states(outputs.tutor.model, self.wanted.teacher)
        stored = self._stored = outputs.states(self.wanted.teacher)

        def read(batch: TensorBatch) -> Signals:
            found = stored.batch(batch.positions.tolist(), batch.input_ids.shape[1])
            return {name: states.to(batch.input_ids.device) for name, states in found.items()}

        return read

    def loss(self, model: Any, batch: TensorBatch, done: float) -> Losses:
        """Every term, weighted; `done` is the share of the steps that are behind."""
        alone = self._layer_alone(done)
        outputs, ours = model(batch, alone)
        logits = batch.answers(outputs)
        theirs = self._states(batch) if self._states else {}
        terms: Losses = {}
        if alone is None:
            terms |= self._answers(logits.float(), ours.get("pooled", logits).float(), batch)
            if self.config.relations:
                terms["relations"] = self._relations(ours, theirs, batch.attention_mask)
            if self.config.embedding:
                distance = self.config.embedding_distance
                terms["embedding"] = hidden_loss(ours["embedding"], theirs["embedding"], batch.attention_mask, distance)
        pairs = [pair for pair in self.wanted.pairs if alone in (None, pair[0])]
        if self.config.hidden:
            terms["hidden"] = self._hidden(pairs, ours, theirs, batch.attention_mask)
        if self.config.attention:
            terms["attention"] = self._attention(pairs, ours, theirs, batch.attention_mask)
        return {name: self._factor(name, done) * term for name, term in terms.items()}

    @property
    def answers(self) -> bool:
        """Whether the student learns to answer, so that its dev accuracy says which epoch was best."""
        return self.config.logits + self.config.labels + self.config.similarities > 0

    def _layer_alone(self, done: float) -> int | None:
        """The layer whose turn it is while one after the other learns, from the bottom."""
        if done >= self.config.progressive:
            return None
        turn = int(done / self.config.progressive * len(self.wanted.pairs))
        return self.wanted.pairs[turn][0]

    def _factor(self, name: Any, done: float) -> float:
        first, last = self.config.schedules.get(name, (1.0, 1.0))
        return float(self.config.weights()[name] * (first + (last - first) * done))

    def _answers(self, logits: Tensor, projected: Tensor, batch: TensorBatch) -> Losses:
        terms: Losses = {}
        if self._soft is not None:
            terms |= teacher_terms(self.head.task, self.config, logits, projected, self._soft, batch.numbers)
        if self.config.labels:
            target, known = self._labels(logits, batch)
            terms["labels"] = (
                label_loss(self.head.task, logits[known], target[known]) if known.any() else 0 * logits.sum()
            )
        return terms

    def _labels(self, logits: Tensor, batch: TensorBatch) -> tuple[Tensor, Tensor]:
        """The targets, and for which answers (N,) they are known: by a label, or told by an endpoint."""
        target, known = known_labels(self.head.task, logits, batch.labels)
        if self._told is not None:
            told = self._told_of(batch, self._told).to(logits)
            spoken = ~torch.isnan(told).any(dim=1) & ~known
            target, known = torch.where(spoken[:, None], told, target), known | spoken
        return target, known

    def _told_of(self, batch: TensorBatch, told: NDArray[np.float32]) -> Tensor:
        """What the endpoint said of a batch, (B, C)."""
        return torch.from_numpy(told[[self.rows.sources[position] for position in batch.positions.tolist()]])

    def counts(self, batch: TensorBatch) -> dict[str, float]:
        """How many answers, tokens or pairs of tokens of a batch the terms are means over.

        Similarities weigh by rows: the parts of a batch lack the pairs of texts that lie in two of them.
        """
        lengths = batch.attention_mask.sum(dim=1)
        known, tokens, rows = has_label(self.head.task, batch.labels), float(lengths.sum()), float(len(batch))
        if self._told is not None:
            known = known | ~torch.isnan(self._told_of(batch, self._told)).any(dim=1)
        return {
            "logits": float(self._soft.given(batch.numbers).sum()) if self._soft and by_word(self.head.task) else rows,
            "similarities": rows,
            "labels": float(known.sum()),
            "relations": tokens,
            "embedding": tokens,
            "hidden": rows if self.config.hidden_tokens == "first" else tokens,
            "attention": float((lengths**2).sum()) if self.config.attention_distance == "mse" else tokens,
        }

    def _relations(self, ours: Signals, theirs: Signals, mask: Tensor) -> Tensor:
        names = zip(relation_names(self.wanted.student), relation_names(self.wanted.teacher), strict=True)
        heads = self.config.relation_heads
        return torch.stack([relation_loss(ours[mine], theirs[other], heads, mask) for mine, other in names]).mean()

    def _hidden(self, pairs: Pairs, ours: Signals, theirs: Signals, mask: Tensor) -> Tensor:
        if self.config.hidden_tokens == "first":
            mask = F.pad(mask[:, :1], (0, mask.shape[1] - 1))
        distance = self.config.hidden_distance
        losses = [hidden_loss(ours[f"hidden.{a}"], theirs[f"hidden.{b}"], mask, distance) for a, b in pairs]
        return torch.stack(losses).mean()

    def _attention(self, pairs: Pairs, ours: Signals, theirs: Signals, mask: Tensor) -> Tensor:
        losses = [
            attention_loss(
                attention_scores(ours[f"query.{a}"], ours[f"key.{a}"], self._widths["ours"]),
                attention_scores(theirs[f"query.{b}"], theirs[f"key.{b}"], self._widths["theirs"]),
                mask,
                self.config.attention_distance,
            )
            for a, b in pairs
            if f"query.{a}" in ours and f"query.{b}" in theirs
        ]
        return torch.stack(losses).mean() if losses else mask.new_zeros((), dtype=torch.float32)

    def close(self) -> None:
        """Leave the student as any other model, and the teacher's states alone."""
        self.learner.close()
        if self._stored is not None:
            self._stored.close()


def _check_relations(config: LossConfig, width: int) -> None:
    if width % config.relation_heads:
        raise ConfigError(
            f"relation_heads: got {config.relation_heads}, which does not divide a width of {width}; "
            "allowed here: a divisor of it"
        )


def _live_states(teacher: Any, names: tuple[str, ...]) -> Callable[[TensorBatch], Signals]:
    """The teacher beside the student, run on every batch."""
    taps = Taps(teacher, names)
    token_types = takes_token_types(teacher)

    def run(batch: TensorBatch) -> Signals:
        with torch.no_grad():
            teacher.to(batch.input_ids.device)(**batch.inputs(token_types))
        return dict(taps.last)

    return run
