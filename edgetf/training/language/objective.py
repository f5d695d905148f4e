"""The loss of a language model: the next token of the text, and the divergence from what the teacher says there.

On-policy (Agarwal et al. 2024, GKD): in a share of the batches the student writes on from the beginning of each block,
with no gradient through what it draws, and the teacher judges the tokens that it wrote, live.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from edgetf.algorithms.divergences import full_divergence, top_k_divergence
from edgetf.config.language.stages import DivergenceConfig, OnPolicyConfig
from edgetf.training.language.packed import BlockBatch
from edgetf.training.language.sampling import write_on
from edgetf.training.language.tutor import Likeliest, Tutor
from edgetf.training.loop import Losses


def next_token_loss(model: Any, batch: BlockBatch, done: float) -> Losses:
    """The loss of a model that learns from the text alone."""
    logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1].float()
    return {"labels": _cross_entropy(logits, batch.ids)}


def _cross_entropy(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean over all tokens but the first: logits (B, T - 1, V), ids (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


class Objective:
    """The weighted terms of a distillation of `batches` batches; the teacher answers live where nothing is stored."""

    def __init__(
        self,
        config: DivergenceConfig,
        tutor: Tutor,
        stored: Likeliest | None,
        on_policy: OnPolicyConfig | None,
        batches: int,
    ) -> None:
        self._config, self._tutor, self._stored = config, tutor, stored
        self._on_policy, self._batches = on_policy, batches

    def loss(self, model: Any, batch: BlockBatch, done: float) -> Losses:
        """Terms of one batch; `done` is the share of the batches that are behind."""
        if self._on_policy is not None and writes_itself(round(done * self._batches), self._on_policy.share):
            return self._judged(model, batch, self._on_policy)
        logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1].float()
        terms: Losses = {}
        if self._config.teacher:
            terms["teacher"] = self._config.teacher * self._told(logits, batch).mean()
        if self._config.labels:
            terms["labels"] = self._config.labels * _cross_entropy(logits, batch.ids)
        return terms

    def _told(self, logits: Tensor, batch: BlockBatch) -> Tensor:
        """The divergence at every token but the last, (B, T - 1)."""
        if self._stored is None:
            return self._live(logits, batch.ids)
        asked = self._config
        top, kept, rest = self._stored.at(batch.positions)
        return top_k_divergence(logits, top, kept, rest, asked.divergence, asked.temperature, asked.beta)

    def _live(self, logits: Tensor, ids: Tensor) -> Tensor:
        asked = self._config
        return full_divergence(logits, self._tutor.logits(ids), asked.divergence, asked.temperature, asked.beta)

    def _judged(self, model: Any, batch: BlockBatch, config: OnPolicyConfig) -> Losses:
        """The divergence at the tokens that the student has written itself."""
        first = min(config.prompt_tokens, batch.ids.shape[1] - 1)
        model.eval()
        ids = write_on(model, batch.ids[:, :first], batch.ids.shape[1] - first, config.temperature)
        model.train()
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        weight = self._config.teacher or 1.0  # a recipe may learn from the text, and of the teacher by this alone
        return {"on_policy": weight * self._live(logits, ids)[:, first - 1 :].mean()}


def writes_itself(number: int, share: float) -> bool:
    """Whether batch `number` is one of the share, which is evenly spread.

    >>> [number for number in range(8) if writes_itself(number, 0.25)]
    [3, 7]
    """
    return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)
