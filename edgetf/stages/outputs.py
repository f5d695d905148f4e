"""What the teacher says of the texts that a stage learns from, kept on disk: its logits, and the states of its tokens.

The logits come from the teacher on its own tokens, and so do stored states of the first token alone. Other states are
compared token by token, so they come from the tutor: the teacher with the student's tokenizer, where a vocabulary
stage gave it another.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch

from edgetf.config.training import LossConfig, TrainingConfig
from edgetf.core.artifact import Artifact, key_of
from edgetf.core.files import file_sha256
from edgetf.core.part import Part
from edgetf.models.checkpoint import fingerprint_of, load_classifier
from edgetf.models.ensemble import Ensemble
from edgetf.models.heads import CLASSIFIER, Head
from edgetf.runtime.encoder import TOKENIZER, Encoder
from edgetf.stages.context import Context
from edgetf.stages.transfer import transfer_rows
from edgetf.training import processes
from edgetf.training.batches import Rows
from edgetf.training.loop import precision_of
from edgetf.training.states import States, Wish, store_states
from edgetf.training.teacher import Question, SoftTargets, answer, cached_logits


class Tutor:
    """A model that is asked, loaded only where something has to be computed, and run as precisely as a student is.

    With `others` beside it, it gives the mean of their answers; its states are its own.
    """

    def __init__(
        self, artifact: Artifact, head: Head, precision: str = "no", others: tuple[Artifact, ...] = ()
    ) -> None:
        self.artifact, self._head, self._precision, self._others = artifact, head, precision, others

    @property
    def states_fingerprint(self) -> str:
        """What its states rest on: the checkpoint, and the precision where it is not that of the weights."""
        checkpoint = fingerprint_of(self.artifact)
        return checkpoint if self._precision == "no" else key_of([checkpoint, self._precision])

    @property
    def fingerprint(self) -> str:
        """What its answers rest on: the same, and how it is read where that is not as a classifier."""
        states = self.states_fingerprint
        alone = states if self._head == CLASSIFIER else key_of([states, asdict(self._head)])
        return key_of([alone, *map(fingerprint_of, self._others)]) if self._others else alone

    @cached_property
    def model(self) -> Any:
        """The model, in memory from now on."""
        models = [self._load(artifact) for artifact in (self.artifact, *self._others)]
        return Ensemble(models) if self._others else models[0]

    def _load(self, artifact: Artifact) -> Any:
        model = load_classifier(artifact.path, head=self._head)
        if self._precision != "no":
            half = torch.float16 if self._precision == "fp16" else torch.bfloat16
            model.forward = torch.autocast(processes.device().type, half)(model.forward)
        return model


class Outputs:
    """The outputs for one stage; `rows` are the pieces of the student's tokens."""

    def __init__(self, config: LossConfig, encoder: Encoder, context: Context) -> None:
        self._config, self._encoder, self._context = config, encoder, context
        self.split, self.rows = transfer_rows(context, config.rows, encoder)
        self._precision = precision_of(config) if isinstance(config, TrainingConfig) else "no"
        self.tutor = self._ask(context.tutor or context.the_teacher())
        self._texts = key_of([self.split.texts, self.split.pairs])

    def _ask(self, artifact: Artifact, others: tuple[Artifact, ...] = ()) -> Tutor:
        return Tutor(artifact, self._context.head, self._precision, others)

    def logits(self) -> SoftTargets:
        """Of every row, piece or word."""
        asked, question = self._question()
        return cached_logits(lambda: asked.model, question, self._context.report)

    def states(self, names: tuple[str, ...]) -> States:
        """The signals of these names, of every piece; a student that learns from them needs no teacher in memory."""
        asked, wish = self._wish(names)
        store_states(lambda: asked.model, wish, self._context.report)
        processes.meet()
        self.tutor = self._ask(self.tutor.artifact)
        return States(wish)

    def fill(self, names: tuple[str, ...], part: Part) -> int:
        """Write a part of the logits, and of the signals of these names; gives the number of blocks written."""
        written = 0
        if self._config.asks_answers:
            asked, question = self._question()
            written = answer(lambda: asked.model, question, self._context.report, part)
        if names:
            asked, wish = self._wish(names)
            written += store_states(lambda: asked.model, wish, self._context.report, part)
        return written

    def _question(self) -> tuple[Tutor, Question]:
        """Who gives the logits, and on which tokens."""
        asked, rows, encoder = self._own_tokens()
        if self._context.ensemble:
            asked = self._ask(asked.artifact, self._context.ensemble)
        top_k, temperature = self._config.top_k, self._config.temperature
        return asked, Question(asked.fingerprint, self._texts, rows, encoder, top_k, temperature)

    def _wish(self, names: tuple[str, ...]) -> tuple[Tutor, Wish]:
        """Who gives the states, and on which tokens."""
        first_only = all(name.startswith("hidden.") for name in names) and self._config.hidden_tokens == "first"
        asked, rows, encoder = self._own_tokens() if first_only else (self.tutor, self.rows, self._encoder)
        return asked, Wish(asked.states_fingerprint, self._texts, names, rows, encoder, first_only)

    def _own_tokens(self) -> tuple[Tutor, Rows, Encoder]:
        """The teacher and the pieces of its own tokens, where pieces and rows are the same thing; else the tutor."""
        teacher, tutor = self._context.the_teacher(), self.tutor.artifact
        if teacher is tutor or file_sha256(teacher.path / TOKENIZER) == file_sha256(tutor.path / TOKENIZER):
            return self._ask(teacher), self.rows, self._encoder
        if self._encoder.long_texts != "truncate":
            return self.tutor, self.rows, self._encoder
        encoder = self._context.encoder(teacher.path, teacher.spec.details["pad_id"])
        return self._ask(teacher), transfer_rows(self._context, self._config.rows, encoder)[1], encoder


def fill_outputs(config: LossConfig, names: tuple[str, ...], source: Artifact, context: Context, part: Part) -> int:
    """Write a part of what a stage will ask; gives the number of blocks that this process wrote."""
    encoder = context.encoder(source.path, source.spec.details["pad_id"])
    return Outputs(config, encoder, context).fill(names, part)
