"""The distillation objective of a recipe: weighted terms from the teacher's answers, its states, and the labels.

The logits come from the teacher on its own tokens. States are compared token by token, so they come from the tutor: the
teacher with the student's tokenizer, where a vocabulary stage gave it another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgetf.algorithms.distillation import attention_loss, attention_scores, hidden_loss, relation_loss
from edgetf.config.training import LossConfig
from edgetf.core.artifact import Artifact, key_of
from edgetf.core.errors import ConfigError
from edgetf.core.files import file_sha256
from edgetf.models.checkpoint import load_classifier, read_config
from edgetf.models.families.family import Shape
from edgetf.models.heads import Head
from edgetf.models.shapes import shape_of
from edgetf.models.slicing import model_shape
from edgetf.runtime.encoder import TOKENIZER
from edgetf.stages.context import Context
from edgetf.stages.signals import Pairs, layer_of, relation_names, wanted_signals
from edgetf.stages.transfer import told, transfer_rows
from edgetf.training.batches import TensorBatch
from edgetf.training.learner import Learner
from edgetf.training.lessons import known_labels, label_loss, teacher_terms
from edgetf.training.loop import Losses
from edgetf.training.states import States, is_stored, states_folder, store_states
from edgetf.training.taps import Taps
from edgetf.training.teacher import SoftTargets, cached_logits, takes_token_types

Signals = Mapping[str, Tensor]


class Tutor:
    """The model that states come from, loaded only where something has to be computed."""

    def __init__(self, artifact: Artifact, head: Head) -> None:
        self.artifact, self._head = artifact, head

    @cached_property
    def model(self) -> Any:
        """The model, in memory from now on."""
        return load_classifier(self.artifact.path, None, self._head)


class Objective:
    """The loss of a recipe for one student; `learner` is what is trained, `rows` what it is trained on."""

    def __init__(self, config: LossConfig, student: Any, source: Artifact, context: Context) -> None:
        self.config, self.head = config, context.head
        encoder = context.encoder(source.path, int(student.config.pad_token_id or 0))
        split, self.rows = transfer_rows(context, config.rows, encoder)
        self.encoder = encoder
        tutor = Tutor(context.tutor or context.the_teacher(), self.head)
        ours, theirs = model_shape(student), _artifact_shape(tutor.artifact)
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
        fingerprint = key_of([split.texts, split.pairs])
        self._told = told(context, config.rows, len(split)) if config.labels else None
        self._soft = self._targets(context, split, fingerprint) if config.logits or config.similarities else None
        self._stored: States | None = None
        self._states = self._teacher_states(tutor, fingerprint, context) if self.wanted.teacher else None

    def _targets(self, context: Context, split: Any, fingerprint: str) -> SoftTargets:
        """The teacher's logits, on its own tokens where pieces and rows are the same thing."""
        teacher = context.the_teacher()
        tutor = context.tutor or teacher
        same = _same_tokenizer(teacher, tutor)
        chosen = teacher if same or self.encoder.long_texts == "truncate" else tutor
        rows, encoder = self.rows, self.encoder
        if chosen is teacher and not same:
            encoder = context.encoder(teacher.path, teacher.spec.details["pad_id"])
            _, rows = transfer_rows(context, self.config.rows, encoder)
        model = Tutor(chosen, self.head)
        return cached_logits(
            lambda: model.model, chosen.digest, rows, encoder, fingerprint, context.report,
            self.config.top_k, self.config.temperature,
        )  # fmt: skip

    def _teacher_states(self, tutor: Tutor, fingerprint: str, context: Context) -> Callable[[TensorBatch], Signals]:
        if not self.config.cache_states:
            return _live_states(tutor.model, self.wanted.teacher)
        folder = states_folder(tutor.artifact.digest, fingerprint, self.wanted.teacher, self.rows, self.encoder)
        if not is_stored(folder):
            store_states(tutor.model, self.wanted.teacher, self.rows, self.encoder, folder, context.report)
            del tutor.model  # a student that learns from the disk needs no teacher in memory
        stored = self._stored = States(folder, [len(piece.input_ids) for piece in self.rows.pieces])

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
            row = [self.rows.sources[position] for position in batch.positions.tolist()]
            told = torch.from_numpy(self._told[row]).to(logits)
            spoken = ~torch.isnan(told).any(dim=1) & ~known
            target, known = torch.where(spoken[:, None], told, target), known | spoken
        return target, known

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


def _artifact_shape(artifact: Artifact) -> Shape:
    return shape_of(read_config(artifact.path))


def _same_tokenizer(one: Artifact, other: Artifact) -> bool:
    return one is other or file_sha256(one.path / TOKENIZER) == file_sha256(other.path / TOKENIZER)


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
