"""Distillation losses.

Soft logits (Hinton et al. 2015): ``T² · KL(softmax(teacher / T) ‖ softmax(student / T))``; the factor T² keeps the
gradient's size when the temperature changes.

Self-attention relations (MiniLMv2, Wang et al. 2021): the queries (and keys, and values) of one layer are split into
R relation heads, R(Q) = softmax(Q Qᵀ / √(H / R)), and the loss is KL(R_teacher ‖ R_student), averaged over heads and
real tokens. Only R is shared, so the student's width and heads are free and no layers are mapped.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_logits_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Soft cross-entropy of two (B, C) logits less the teacher's entropy, times T².

    >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
    >>> round(soft_logits_loss(logits, logits, 4.0).item(), 6)
    0.0
    """
    target = F.softmax(teacher / temperature, dim=-1)
    log_student = F.log_softmax(student / temperature, dim=-1)
    return F.kl_div(log_student, target, reduction="batchmean") * temperature**2


def relation_logits(states: Tensor, heads: int, mask: Tensor) -> Tensor:
    """Scaled dot products of every token with every other, (B, R, T, T), padding columns at the lowest value.

    `states` has shape (B, T, H) with H a multiple of `heads`; `mask` (B, T) is 1 on real tokens.
    """
    batch, tokens, width = states.shape
    split = states.view(batch, tokens, heads, width // heads).transpose(1, 2)  # (B, R, T, H / R)
    scores = split @ split.transpose(-1, -2) / math.sqrt(width // heads)
    return scores.masked_fill(mask[:, None, None, :] == 0, torch.finfo(scores.dtype).min)


def relation_loss(student: Tensor, teacher: Tensor, heads: int, mask: Tensor) -> Tensor:
    """KL of one kind of relation; `student` (B, T, Hs), `teacher` (B, T, Ht), widths multiples of `heads`.

    >>> states = torch.randn(2, 5, 8)
    >>> round(relation_loss(states, states, 4, torch.ones(2, 5)).item(), 6)
    0.0
    """
    log_student = F.log_softmax(relation_logits(student, heads, mask), dim=-1)
    log_teacher = F.log_softmax(relation_logits(teacher, heads, mask), dim=-1)
    per_token = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)  # (B, R, T)
    weight = mask[:, None, :].to(per_token.dtype)
    return (per_token * weight).sum() / (weight.sum() * heads)
