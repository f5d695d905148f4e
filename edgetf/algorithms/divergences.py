"""How far a student's next-token distribution Q is from its teacher's P, for distillation of language models.

With logits t and s of V tokens, P = softmax(t / T) and Q = softmax(s / T):

- forward KL (Hinton et al. 2015): ``KL(P ‖ Q) = Σ P log(P / Q)``; the student covers all that the teacher may say
- reverse KL (Gu et al. 2024, MiniLLM): ``KL(Q ‖ P)``; it settles for what the teacher surely says
- generalized Jensen-Shannon (Agarwal et al. 2024, GKD): with ``M = β P + (1 - β) Q``,
  ``JSD_β = β KL(P ‖ M) + (1 - β) KL(Q ‖ M)``; near β = 0 it is ``β`` forward KL, near 1 ``(1 - β)`` reverse KL

Each is times T², which keeps the gradient's size when the temperature changes (Hinton et al. 2015).

Where only the teacher's k likeliest tokens are kept, all others are one class, of the teacher and of the student: the
divergence of k + 1 classes, which is never more than that of all V (data processing inequality; Cover & Thomas 2006,
section 2.8), and 0 where the student says the same.

A student learns ``teacher · T² D(P, Q) + labels · cross-entropy(next token, softmax(s))``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import assert_never

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]

_LEAST_REST = 1e-6  # of the student's other tokens: less cannot be told from none in float32


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(P ‖ Q) of every row of (…, C) log probabilities, shape (…); a class that P never takes adds nothing.

    >>> p = torch.tensor([0.5, 0.5]).log()
    >>> round(kl(p, torch.tensor([0.25, 0.75]).log()).item(), 4)
    0.1438
    >>> kl(torch.tensor([0.0, -torch.inf]), p).item() == -p[0].item()
    True
    """
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p.clamp_min(torch.finfo(log_p.dtype).min) - log_q), 0.0).sum(dim=-1)


def divergence(log_p: Tensor, log_q: Tensor, kind: Divergence, beta: float = 0.5) -> Tensor:
    """Of every row of the teacher's and the student's log probabilities (…, C), shape (…).

    >>> p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    >>> [round(divergence(p, q, kind).item(), 4) for kind in ("forward_kl", "reverse_kl", "jsd")]
    [0.1438, 0.1308, 0.0338]
    >>> round(divergence(p, q, "jsd", 1e-3).item() / 1e-3, 3)
    0.144
    """
    match kind:
        case "forward_kl":
            return kl(log_p, log_q)
        case "reverse_kl":
            return kl(log_q, log_p)
        case "jsd":
            weights = torch.tensor([beta, 1 - beta], dtype=log_p.dtype, device=log_p.device).log()
            log_m = torch.logaddexp(log_p + weights[0], log_q + weights[1])
            return beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)
        case _:
            assert_never(kind)


def full_divergence(
    student: Tensor, teacher: Tensor, kind: Divergence, temperature: float = 1.0, beta: float = 0.5
) -> Tensor:
    """Of logits (…, V), times T², shape (…).

    >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
    >>> full_divergence(logits + 5, logits, "reverse_kl", 2.0).abs().item() < 1e-6
    True
    """
    log_q, log_p = F.log_softmax(student / temperature, dim=-1), F.log_softmax(teacher / temperature, dim=-1)
    return divergence(log_p, log_q, kind, beta) * temperature**2


def top_k_divergence(
    student: Tensor, top: Tensor, kept: Tensor, rest: Tensor, kind: Divergence, temperature: float = 1.0,
    beta: float = 0.5,
) -> Tensor:  # fmt: skip
    """Of logits (…, V) from a teacher of whom only the k likeliest tokens `kept` (…, k) are known, times T², shape (…).

    `top` (…, k) holds their log probabilities at the temperature and `rest` (…) that of all others together; together
    they are made to sum to 1, as what was stored may be rounded.

    >>> logits = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    >>> log_p = logits.log_softmax(-1)
    >>> kept = torch.tensor([[2, 1]])
    >>> rest = log_p[:, [0, 3]].logsumexp(-1)
    >>> top_k_divergence(logits, log_p.gather(1, kept), kept, rest, "jsd").abs().item() < 1e-6
    True
    """
    log_p = F.log_softmax(torch.cat([top, rest[..., None]], dim=-1), dim=-1)
    scaled = student / temperature
    every = scaled.logsumexp(dim=-1, keepdim=True)  # (…, 1)
    ours = scaled.gather(-1, kept) - every
    others = torch.log(-torch.expm1(ours.logsumexp(dim=-1, keepdim=True).clamp(max=-_LEAST_REST)))
    return divergence(log_p, torch.cat([ours, others], dim=-1), kind, beta) * temperature**2


def keep_top(teacher: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The log probabilities of the k likeliest tokens (…, k), the tokens (…, k), and all others' together (…).

    `teacher` are logits (…, V) with V > k.

    >>> top, kept, rest = keep_top(torch.tensor([0.0, 2.0, 1.0]), 2)
    >>> kept.tolist(), round((top.exp().sum() + rest.exp()).item(), 5)
    ([1, 2], 1.0)
    """
    scaled = teacher / temperature
    every = scaled.logsumexp(dim=-1, keepdim=True)
    top, kept = scaled.topk(k, dim=-1)
    rest = scaled.scatter(-1, kept, -torch.inf).logsumexp(dim=-1)
    return top - every, kept, rest - every[..., 0]
