"""The divergences of a distillation: what they are, how they meet in their limits, and what is known of k tokens."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch

from edgetf.algorithms.divergences import Divergence, divergence, full_divergence, keep_top, top_k_divergence

KINDS: tuple[Any, ...] = get_args(Divergence)
V = 20


def logits(seed: int, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(3, 4, V, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_where_both_say_the_same(kind: Divergence) -> None:
    found = full_divergence(logits(0) + 7, logits(0), kind, 2.0, 0.3)
    assert found.shape == (3, 4)
    assert found.abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_nothing_elsewhere(kind: Divergence) -> None:
    assert (full_divergence(logits(1), logits(0), kind) > 0).all()


def test_forward_kl_is_that_of_torch() -> None:
    p, q = logits(0).log_softmax(-1), logits(1).log_softmax(-1)
    wanted = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(divergence(p, q, "forward_kl"), wanted)
    torch.testing.assert_close(divergence(q, p, "reverse_kl"), wanted)


def test_jsd_is_symmetric_at_a_half_and_bounded() -> None:
    p, q = logits(0, 50.0).log_softmax(-1), logits(1, 50.0).log_softmax(-1)
    one, other = divergence(p, q, "jsd", 0.5), divergence(q, p, "jsd", 0.5)
    torch.testing.assert_close(one, other)
    assert one.max() <= math.log(2) + 1e-6


@pytest.mark.parametrize(("beta", "kind"), [(1e-6, "forward_kl"), (1 - 1e-6, "reverse_kl")])
def test_jsd_is_a_kl_in_its_limits(beta: float, kind: Divergence) -> None:
    p, q = logits(0).double().log_softmax(-1), logits(1).double().log_softmax(-1)
    scaled = divergence(p, q, "jsd", beta) / min(beta, 1 - beta)
    torch.testing.assert_close(scaled, divergence(p, q, kind), rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_all_but_one_token_kept_is_as_all(kind: Divergence, temperature: float) -> None:
    """Then the class of all others has one token, and nothing is lost."""
    student, teacher = logits(1), logits(0)
    top, kept, rest = keep_top(teacher, V - 1, temperature)
    found = top_k_divergence(student, top, kept, rest, kind, temperature, 0.3)
    torch.testing.assert_close(found, full_divergence(student, teacher, kind, temperature, 0.3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_tokens_tell_less(kind: Divergence) -> None:
    student, teacher = logits(1), logits(0)
    found = [top_k_divergence(student, *keep_top(teacher, k), kind) for k in (1, 4, 12, V - 1)]
    for fewer, more in zip(found, found[1:], strict=False):
        assert (fewer <= more + 1e-5).all()
    assert (found[0] >= -1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_numbers_where_the_student_is_sure(kind: Divergence) -> None:
    """All of its mass on the teacher's tokens leaves nothing for the others, whose logarithm must not be infinite."""
    student = torch.zeros(1, V)
    student[0, :4] = 60.0
    student.requires_grad_(True)
    top, kept, rest = keep_top(student.detach() / 10, 4)
    top_k_divergence(student, top, kept, rest, kind).sum().backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_that_follows_it_comes_to_the_teacher(kind: Divergence) -> None:
    teacher, student = logits(0), torch.zeros(3, 4, V, requires_grad=True)
    stored = keep_top(teacher, V - 1)
    optimizer = torch.optim.Adam([student], 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        top_k_divergence(student, *stored, kind).sum().backward()
        optimizer.step()
    torch.testing.assert_close(student.softmax(-1), teacher.softmax(-1), rtol=0, atol=0.02)


def test_the_temperature_keeps_the_size_of_the_gradient() -> None:
    """At a high temperature T² · KL is half the squared distance of the centred logits, over V."""
    student, teacher = logits(1), logits(0)
    difference = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    wanted = difference.pow(2).sum(-1) / (2 * V)
    torch.testing.assert_close(full_divergence(student, teacher, "forward_kl", 500.0), wanted, rtol=0.05, atol=1e-2)
