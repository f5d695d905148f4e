"""Distillation losses.

Soft logits (Hinton et al. 2015): ``T² · KL(softmax(teacher / T) ‖ softmax(student / T))``; the factor T² keeps the
gradient's size when the temperature changes.

Self-attention relations (MiniLMv2, Wang et al. 2021): the queries (and keys, and values) of one layer are split into
R relation heads, R(Q) = softmax(Q Qᵀ / √(H / R)), and the loss is KL(R_teacher ‖ R_student), averaged over heads and
real tokens. Only R is shared, so the student's width and heads are free and no layers are mapped.

Hidden states (TinyBERT, Jiao et al. 2020): the mean square of ``W h_student - h_teacher`` over real tokens, W learned;
or one less the cosine (DistilBERT, Sanh et al. 2019); or the square of the difference of the normalized states, which
PKD (Sun et al. 2019) takes of the first token.

Sentence vectors (Reimers & Gurevych 2020): the distance of student and teacher; and, as in similarity-preserving
distillation (Tung & Mori 2019), the mean square of the difference of the cosines of all pairs of a batch.

Attention (TinyBERT): the mean square of the difference of the scores ``Q Kᵀ / √D`` before the softmax, over pairs of
real tokens; or KL(teacher ‖ student) of the distributions (MobileBERT, Sun et al. 2020). Where the numbers of heads
differ, the means over the heads are compared.
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


def soft_top_k_loss(student: Tensor, top: Tensor, kept: Tensor, rest: Tensor, temperature: float) -> Tensor:
    """Soft logits where only the teacher's k largest are known: KL over k classes and one that holds all the others.

    `student` (B, C); `top` (B, k) the teacher's logits of the classes `kept` (B, k); `rest` (B,) the log of the summed
    exponentials of all its other logits, each divided by the same temperature before.

    >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
    >>> rest = torch.tensor([1.0])
    >>> soft_top_k_loss(logits, logits[:, 1:], torch.tensor([[1, 2]]), rest, 1.0).abs().item() < 1e-6
    True
    """
    log_student = F.log_softmax(student / temperature, dim=-1)
    others = log_student.scatter(1, kept, -torch.inf).logsumexp(dim=-1, keepdim=True)  # (B, 1)
    ours = torch.cat([log_student.gather(1, kept), others], dim=-1)
    target = F.softmax(torch.cat([top / temperature, rest[:, None]], dim=-1), dim=-1)
    return F.kl_div(ours, target, reduction="batchmean") * temperature**2


def hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor, distance: str) -> Tensor:
    """Distance of two hidden states (B, T, H), averaged over the tokens where `mask` (B, T) is 1.

    `distance` is mse, cosine or normalized.

    >>> states = torch.tensor([[[3.0, 4.0]]])
    >>> hidden_loss(states, 2 * states, torch.ones(1, 1), "cosine").item()
    0.0
    """
    match distance:
        case "mse":
            per_token = (student - teacher).pow(2).mean(dim=-1)
        case "cosine":
            per_token = 1 - F.cosine_similarity(student, teacher, dim=-1)
        case "normalized":
            per_token = (F.normalize(student, dim=-1) - F.normalize(teacher, dim=-1)).pow(2).sum(dim=-1)
        case _:
            raise ValueError(f"distance: got {distance}, allowed: mse, cosine, normalized")
    weight = mask.to(per_token.dtype)
    return (per_token * weight).sum() / weight.sum()


def vector_loss(student: Tensor, teacher: Tensor, distance: str) -> Tensor:
    """Distance of vectors (B, H), averaged over rows: one less the cosine, or (mse) the square of the difference.

    >>> vector_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0]]), "cosine").abs().item() < 1e-6
    True
    >>> vector_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 2.0]]), "mse").item()
    4.0
    """
    if distance == "cosine":
        return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()
    return (student - teacher).pow(2).sum(dim=-1).mean()


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean square difference of the cosines of all pairs of rows; `student` (B, Hs), `teacher` (B, Ht).

    >>> round(similarity_loss(torch.eye(2), torch.ones(2, 5)).item(), 4)
    1.0
    """
    ours, theirs = (F.normalize(vectors, dim=-1) for vectors in (student, teacher))
    pairs = len(student) * (len(student) - 1)
    # the diagonals are equal, but for rounding
    return (ours @ ours.T - theirs @ theirs.T).pow(2).fill_diagonal_(0.0).sum() / max(1, pairs)


def attention_scores(query: Tensor, key: Tensor, width: int) -> Tensor:
    """Scores before the softmax (B, A, T, T) of heads `width` wide, from projections (B, T, A · width)."""
    batch, tokens, _ = query.shape
    query, key = (states.view(batch, tokens, -1, width).transpose(1, 2) for states in (query, key))
    return query @ key.transpose(-1, -2) / math.sqrt(width)


def attention_loss(student: Tensor, teacher: Tensor, mask: Tensor, distance: str) -> Tensor:
    """Distance of attention scores (B, As, T, T) and (B, At, T, T), padding left out by `mask` (B, T).

    >>> scores = torch.tensor([[[[1.0, 9.0], [9.0, 9.0]]]])
    >>> attention_loss(scores, torch.ones(1, 1, 2, 2), torch.tensor([[1, 0]]), "mse").item()
    0.0
    """
    rows = mask[:, None, :].to(student.dtype)  # (B, 1, T)
    if distance == "kl":
        ours, theirs = (
            _log_attention(scores, mask, student.shape[1] == teacher.shape[1]) for scores in (student, teacher)
        )
        per_token = (theirs.exp() * (theirs - ours)).sum(dim=-1)
        return (per_token * rows).sum() / (rows.sum() * ours.shape[1])
    if student.shape[1] != teacher.shape[1]:
        student, teacher = (scores.mean(dim=1, keepdim=True) for scores in (student, teacher))
    pairs = rows[..., None] * rows[..., None, :]  # (B, 1, T, T)
    return ((student - teacher).pow(2) * pairs).sum() / (pairs.sum() * student.shape[1])


def _log_attention(scores: Tensor, mask: Tensor, each_head: bool) -> Tensor:
    """Logarithm of the attention (B, A, T, T), or of its mean over the heads (B, 1, T, T), in logarithms throughout."""
    lowest = torch.finfo(scores.dtype).min
    attention = F.log_softmax(scores.masked_fill(mask[:, None, None, :] == 0, lowest), dim=-1)
    if each_head:
        return attention
    return attention.logsumexp(dim=1, keepdim=True) - math.log(scores.shape[1])
