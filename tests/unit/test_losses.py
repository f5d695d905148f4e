"""The distillation losses and the importance scores, held against plain numpy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetf.algorithms.distillation import (
    attention_loss,
    attention_scores,
    hidden_loss,
    relation_logits,
    relation_loss,
    soft_logits_loss,
    soft_top_k_loss,
)
from edgetf.algorithms.importance import head_magnitude, mask_gradients, most_important, neuron_magnitude
from edgetf.training.teacher import SoftTargets, keep_top

torch.set_num_threads(1)

Array = NDArray[np.float64]


def made(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def kl(target: Array, other: Array) -> Array:
    """KL(target ‖ other) over the last axis."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(target > 0, target * (np.log(target) - np.log(other)), 0.0)
    return np.asarray(terms.sum(axis=-1))


class TestSoftLogits:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
    def test_equals_the_formula(self, temperature: float) -> None:
        student, teacher = made(6, 4, seed=1), 3 * made(6, 4, seed=2)
        wanted = temperature**2 * kl(softmax(teacher.numpy() / temperature), softmax(student.numpy() / temperature))
        assert soft_logits_loss(student, teacher, temperature).item() == pytest.approx(wanted.mean(), rel=1e-9)

    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_is_zero_for_equal_logits_and_for_shifted_ones(self, temperature: float) -> None:
        logits = 5 * made(3, 7, seed=3)
        assert soft_logits_loss(logits, logits, temperature).item() == pytest.approx(0, abs=1e-12)
        assert soft_logits_loss(logits + 2.5, logits, temperature).item() == pytest.approx(0, abs=1e-12)

    def test_is_positive_for_different_logits(self) -> None:
        assert soft_logits_loss(made(3, 7, seed=4), made(3, 7, seed=5), 2.0) > 0

    def test_temperature_keeps_the_size_of_the_gradient(self) -> None:
        """At high temperature the gradient is (student - teacher) / classes, whatever the temperature (Hinton 2015)."""
        teacher = made(2, 5, seed=6)
        teacher -= teacher.mean(dim=-1, keepdim=True)
        start = made(2, 5, seed=7)
        start -= start.mean(dim=-1, keepdim=True)
        for temperature in (100.0, 1000.0):
            student = start.clone().requires_grad_()
            soft_logits_loss(student, teacher, temperature).backward()
            assert student.grad is not None
            torch.testing.assert_close(student.grad, (start - teacher) / 5 / 2, rtol=0.05, atol=1e-3)

    def test_gradient_is_temperature_times_the_difference_of_probabilities(self) -> None:
        student, teacher = made(4, 3, seed=8).requires_grad_(), made(4, 3, seed=9)
        soft_logits_loss(student, teacher, 3.0).backward()
        difference = softmax(student.detach().numpy() / 3) - softmax(teacher.numpy() / 3)
        assert student.grad is not None
        np.testing.assert_allclose(student.grad.numpy(), 3.0 * difference / 4, rtol=1e-9)

    def test_is_finite_for_extreme_logits(self) -> None:
        assert torch.isfinite(soft_logits_loss(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]]), 1.0))


class TestRelations:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

    def test_equals_the_formula(self) -> None:
        student, teacher = made(2, 5, 8, seed=1), made(2, 5, 12, seed=2)
        per_token = []
        for row, length in enumerate((5, 3)):
            relations = []
            for states in (teacher, student):
                width = states.shape[-1] // 4
                real = states[row, :length].numpy().reshape(length, 4, width).transpose(1, 0, 2)  # (R, T, H / R)
                relations.append(softmax(real @ real.transpose(0, 2, 1) / np.sqrt(width)))
            per_token += kl(relations[0], relations[1]).reshape(-1).tolist()  # heads × real tokens
        assert relation_loss(student, teacher, 4, self.mask).item() == pytest.approx(np.mean(per_token), rel=1e-9)

    def test_is_zero_for_equal_states(self) -> None:
        states = made(2, 5, 8, seed=3)
        assert relation_loss(states, states, 2, self.mask).item() == pytest.approx(0, abs=1e-12)

    def test_is_zero_for_rotated_states(self) -> None:
        """Only the relations are shared: turning a head's space changes none of them."""
        states = made(2, 5, 8, seed=4)
        turn, _ = torch.linalg.qr(made(8, 8, seed=5))
        assert relation_loss(states @ turn, states, 1, self.mask).item() == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("widths", [(8, 16), (16, 8), (4, 12)])
    def test_widths_may_differ(self, widths: tuple[int, int]) -> None:
        loss = relation_loss(made(2, 5, widths[0], seed=6), made(2, 5, widths[1], seed=7), 4, self.mask)
        assert torch.isfinite(loss) and loss > 0

    def test_padding_changes_nothing(self) -> None:
        student, teacher = made(2, 5, 8, seed=8), made(2, 5, 12, seed=9)
        before = relation_loss(student, teacher, 4, self.mask)
        student[1, 3:], teacher[1, 3:] = 100 * made(2, 8, seed=10), -50 * made(2, 12, seed=11)
        assert relation_loss(student, teacher, 4, self.mask) == before

    def test_more_padding_changes_nothing(self) -> None:
        student, teacher = made(2, 5, 8, seed=12), made(2, 5, 8, seed=13)
        before = relation_loss(student, teacher, 2, self.mask)
        padded = [torch.cat([states, made(2, 4, 8, seed=14)], dim=1) for states in (student, teacher)]
        mask = torch.cat([self.mask, torch.zeros(2, 4, dtype=self.mask.dtype)], dim=1)
        torch.testing.assert_close(relation_loss(padded[0], padded[1], 2, mask), before)

    def test_padding_gets_no_gradient(self) -> None:
        student = made(2, 5, 8, seed=15).requires_grad_()
        relation_loss(student, made(2, 5, 8, seed=16), 4, self.mask).backward()
        assert student.grad is not None and torch.isfinite(student.grad).all()
        assert (student.grad[1, 3:] == 0).all()
        assert (student.grad[1, :3] != 0).any()

    def test_logits_have_one_map_a_head(self) -> None:
        logits = relation_logits(made(2, 5, 8, seed=17), 4, self.mask)
        assert logits.shape == (2, 4, 5, 5)
        assert (logits[1, :, :, 3:] == torch.finfo(torch.float64).min).all()

    def test_half_precision_stays_finite(self) -> None:
        student, teacher = made(2, 5, 8, seed=18).bfloat16(), made(2, 5, 8, seed=19).bfloat16()
        assert torch.isfinite(relation_loss(student, teacher, 4, self.mask))


def top_k_loss(student: Tensor, teacher: Tensor, k: int, temperature: float) -> Tensor:
    """The loss of what `keep_top` keeps of the teacher."""
    kept = keep_top(teacher.numpy(), k, temperature)
    assert kept.kept is not None and kept.rest is not None
    assert kept.top.shape == kept.kept.shape == (len(teacher), k) and kept.rest.shape == (len(teacher),)
    top, classes, rest = torch.from_numpy(kept.top), torch.from_numpy(kept.kept).long(), torch.from_numpy(kept.rest)
    return soft_top_k_loss(student, top, classes, rest.to(student.dtype), temperature)


class TestSoftTopK:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_equals_the_formula(self, k: int, temperature: float) -> None:
        """KL over the k classes and one whose probability is the sum of all the others'."""
        student, teacher = made(6, 8, seed=1), 3 * made(6, 8, seed=2)
        p, q = softmax(teacher.numpy() / temperature), softmax(student.numpy() / temperature)
        wanted = []
        for row in range(6):
            order = np.argsort(-teacher[row].numpy())
            of_p, of_q = (np.append(values[row][order[:k]], values[row][order[k:]].sum()) for values in (p, q))
            wanted.append(temperature**2 * kl(of_p, of_q))
        loss = top_k_loss(student, teacher, k, temperature).item()
        assert loss == pytest.approx(np.mean(wanted), rel=1e-5)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_all_but_one_is_all(self, temperature: float) -> None:
        """What is left is one class, whose probability follows from the others'."""
        student, teacher = made(6, 8, seed=3).requires_grad_(), 3 * made(6, 8, seed=4)
        whole = soft_logits_loss(student, teacher, temperature)
        (wanted,) = torch.autograd.grad(whole, student)
        loss = top_k_loss(student, teacher, 7, temperature)
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize("k", [1, 3, 7])
    def test_is_zero_for_equal_logits_and_less_than_the_whole_for_others(self, k: int) -> None:
        student, teacher = made(6, 8, seed=5), made(6, 8, seed=6)
        assert top_k_loss(teacher, teacher, k, 2.0).item() == pytest.approx(0, abs=1e-6)
        assert 0 < top_k_loss(student, teacher, k, 2.0) <= soft_logits_loss(student, teacher, 2.0) + 1e-6

    def test_does_not_see_how_the_others_share_what_is_left(self) -> None:
        student, teacher = made(1, 6, seed=7), torch.tensor([[9.0, 8.0, 1.0, 2.0, 3.0, 0.0]], dtype=torch.float64)
        turned = student[:, [0, 1, 4, 5, 2, 3]]
        assert top_k_loss(turned, teacher, 2, 1.0).item() == pytest.approx(top_k_loss(student, teacher, 2, 1.0).item())

    def test_is_finite_for_extreme_logits(self) -> None:
        student = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.float64, requires_grad=True)
        loss = top_k_loss(student, torch.tensor([[-1e4, 1e4, 0.0]], dtype=torch.float64), 1, 1.0)
        loss.backward()
        assert torch.isfinite(loss) and student.grad is not None and torch.isfinite(student.grad).all()

    def test_stored_targets_give_the_same_loss(self) -> None:
        student, teacher = made(5, 8, seed=8).float(), made(9, 8, seed=9).float()
        positions = torch.tensor([7, 0, 3, 3, 8])
        some, every = keep_top(teacher.numpy(), 3, 2.0), SoftTargets(teacher.numpy(), 2.0)
        wanted = top_k_loss(student, teacher[positions], 3, 2.0)
        torch.testing.assert_close(some.loss(student, positions), wanted)
        torch.testing.assert_close(every.loss(student, positions), soft_logits_loss(student, teacher[positions], 2.0))


class TestHidden:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    distances = pytest.mark.parametrize("distance", ["mse", "cosine", "normalized"])

    @distances
    def test_equals_the_formula(self, distance: str) -> None:
        student, teacher = made(2, 5, 8, seed=1), made(2, 5, 8, seed=2)
        wanted = []
        for row, length in enumerate((5, 3)):
            for token in range(length):
                s, t = student[row, token].numpy(), teacher[row, token].numpy()
                unit_s, unit_t = s / np.linalg.norm(s), t / np.linalg.norm(t)
                formulas = {"mse": np.mean((s - t) ** 2), "cosine": 1 - unit_s @ unit_t}
                wanted.append({**formulas, "normalized": np.sum((unit_s - unit_t) ** 2)}[distance])
        assert hidden_loss(student, teacher, self.mask, distance).item() == pytest.approx(np.mean(wanted), rel=1e-9)

    @distances
    def test_padding_changes_nothing(self, distance: str) -> None:
        student, teacher = made(2, 5, 8, seed=3), made(2, 5, 8, seed=4)
        before = hidden_loss(student, teacher, self.mask, distance)
        student[1, 3:], teacher[1, 3:] = 100 * made(2, 8, seed=5), 0
        assert hidden_loss(student, teacher, self.mask, distance) == before

    @distances
    def test_is_zero_for_equal_states_only(self, distance: str) -> None:
        student, teacher = made(2, 5, 8, seed=6), made(2, 5, 8, seed=7)
        assert hidden_loss(student, student, self.mask, distance).item() == pytest.approx(0, abs=1e-12)
        assert hidden_loss(student, teacher, self.mask, distance) > 0

    def test_only_mse_minds_the_length(self) -> None:
        states = made(2, 5, 8, seed=8)
        assert hidden_loss(3 * states, states, self.mask, "mse") > 1
        for distance in ("cosine", "normalized"):
            assert hidden_loss(3 * states, states, self.mask, distance).item() == pytest.approx(0, abs=1e-12)

    @distances
    def test_states_of_zero_have_a_gradient(self, distance: str) -> None:
        """The stored states of padding are zero."""
        student = torch.zeros(2, 5, 8, requires_grad=True)
        loss = hidden_loss(student, torch.zeros(2, 5, 8), self.mask, distance)
        loss.backward()
        assert torch.isfinite(loss) and student.grad is not None and torch.isfinite(student.grad).all()

    def test_refuses_another_distance(self) -> None:
        with pytest.raises(ValueError, match="distance: got manhattan, allowed: mse, cosine, normalized"):
            hidden_loss(made(1, 1, 2, seed=1), made(1, 1, 2, seed=2), torch.ones(1, 1), "manhattan")


class TestAttention:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    distances = pytest.mark.parametrize("distance", ["mse", "kl"])

    def formula(self, student: Tensor, teacher: Tensor, distance: str) -> float:
        """Over real tokens and heads (or their mean, where they are not as many) one by one."""
        found: list[float] = []
        for row, length in enumerate((5, 3)):
            maps = [scores[row, :, :length, :length].numpy() for scores in (student, teacher)]  # (A, T, T)
            if distance == "kl":
                maps = [softmax(scores) for scores in maps]
            if len(maps[0]) != len(maps[1]):
                maps = [scores.mean(axis=0, keepdims=True) for scores in maps]
            ours, theirs = maps
            found += (kl(theirs, ours) if distance == "kl" else (ours - theirs) ** 2).reshape(-1).tolist()
        return float(np.mean(found))

    @pytest.mark.parametrize(("heads", "width"), [(1, 8), (4, 2), (2, 4)])
    def test_scores_equal_the_formula(self, heads: int, width: int) -> None:
        query, key = made(2, 5, 8, seed=1), made(2, 5, 8, seed=2)
        scores = attention_scores(query, key, width)
        assert scores.shape == (2, heads, 5, 5)
        for row in range(2):
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                q, k = query[row, :, part].numpy(), key[row, :, part].numpy()
                np.testing.assert_allclose(scores[row, head].numpy(), q @ k.T / np.sqrt(width), rtol=1e-9)

    @distances
    @pytest.mark.parametrize("heads", [(3, 3), (2, 4), (4, 1)])
    def test_equals_the_formula(self, distance: str, heads: tuple[int, int]) -> None:
        student, teacher = made(2, heads[0], 5, 5, seed=3), 2 * made(2, heads[1], 5, 5, seed=4)
        loss = attention_loss(student, teacher, self.mask, distance).item()
        assert loss == pytest.approx(self.formula(student, teacher, distance), rel=1e-9)

    @distances
    @pytest.mark.parametrize("heads", [(3, 3), (2, 4)])
    def test_padding_changes_nothing(self, distance: str, heads: tuple[int, int]) -> None:
        student, teacher = made(2, heads[0], 5, 5, seed=5), made(2, heads[1], 5, 5, seed=6)
        before = attention_loss(student, teacher, self.mask, distance)
        for scores, seed in ((student, 7), (teacher, 8)):
            scores[1, :, 3:] = 100 * made(*scores[1, :, 3:].shape, seed=seed)
            scores[1, :, :, 3:] = -50 * made(*scores[1, :, :, 3:].shape, seed=seed)
        assert attention_loss(student, teacher, self.mask, distance) == before

    @distances
    def test_more_padding_changes_nothing(self, distance: str) -> None:
        student, teacher = made(2, 3, 5, 5, seed=9), made(2, 2, 5, 5, seed=10)
        before = attention_loss(student, teacher, self.mask, distance)
        longer = [torch.nn.functional.pad(scores, (0, 2, 0, 2), value=7.0) for scores in (student, teacher)]
        mask = torch.nn.functional.pad(self.mask, (0, 2))
        torch.testing.assert_close(attention_loss(longer[0], longer[1], mask, distance), before)

    @distances
    def test_is_zero_for_equal_scores_only(self, distance: str) -> None:
        student, teacher = made(2, 3, 5, 5, seed=11), made(2, 3, 5, 5, seed=12)
        assert attention_loss(student, student, self.mask, distance).item() == pytest.approx(0, abs=1e-12)
        assert attention_loss(student, teacher, self.mask, distance) > 0

    def test_only_mse_minds_a_shift(self) -> None:
        """A softmax does not see what is added to all scores of a token."""
        scores = made(2, 3, 5, 5, seed=13)
        assert attention_loss(scores + 3, scores, self.mask, "kl").item() == pytest.approx(0, abs=1e-12)
        assert attention_loss(scores + 3, scores, self.mask, "mse").item() == pytest.approx(9)

    @distances
    @pytest.mark.parametrize("heads", [3, 2])
    def test_extreme_scores_have_a_gradient(self, distance: str, heads: int) -> None:
        student = (1e4 * made(2, 3, 5, 5, seed=14).float()).requires_grad_()
        loss = attention_loss(student, -1e4 * made(2, heads, 5, 5, seed=15).float(), self.mask, distance)
        loss.backward()
        assert torch.isfinite(loss) and student.grad is not None and torch.isfinite(student.grad).all()


def taylor(activation: Tensor, gradient: Tensor, units: int) -> Tensor:
    """First-order importance (U,), from the gradients by masks on the units."""
    by_row = mask_gradients(activation, gradient, units)
    assert by_row.shape == (len(activation), units)
    return by_row.abs().sum(dim=0)


class TestMaskGradients:
    @pytest.mark.parametrize("units", [8, 4, 2])
    def test_are_what_autograd_gives_for_a_mask(self, units: int) -> None:
        """The mask is 1 for every unit of every row."""
        states, weight = made(5, 3, 8, seed=20), made(8, seed=21)

        def loss(activation: Tensor) -> Tensor:
            return torch.sin(activation @ weight).sum()

        mask = torch.ones(5, units, dtype=torch.float64, requires_grad=True)
        (wanted,) = torch.autograd.grad(loss(states * mask.repeat_interleave(8 // units, dim=1)[:, None]), mask)
        activation = states.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(activation), activation)
        torch.testing.assert_close(mask_gradients(states, gradient, units), wanted)


class TestTaylor:
    """A net of two layers whose loss is linear in the neurons: removing one moves the loss by exactly the estimate."""

    weight_in, weight_out = made(6, 3, seed=1), made(6, seed=2)
    rows = made(5, 4, 3, seed=3)  # (B, T, H)

    def losses(self, kept: Tensor) -> Tensor:
        """The loss of every row, (B,), with the neurons multiplied by `kept`."""
        neurons = torch.tanh(self.rows @ self.weight_in.T) * kept  # (B, T, F)
        return (neurons @ self.weight_out).sum(dim=1)

    def brute_force(self, units: int) -> list[float]:
        whole = self.losses(torch.ones(6, dtype=torch.float64))
        changes = []
        for unit in range(units):
            kept = torch.ones(units, 6 // units, dtype=torch.float64)
            kept[unit] = 0
            changes.append((self.losses(kept.view(6)) - whole).abs().sum().item())
        return changes

    @pytest.mark.parametrize("units", [6, 3, 2])
    def test_equals_removing_each_unit(self, units: int) -> None:
        neurons = torch.tanh(self.rows @ self.weight_in.T).requires_grad_()
        (neurons @ self.weight_out).sum().backward()
        assert neurons.grad is not None
        estimate = taylor(neurons.detach(), neurons.grad, units)
        assert estimate.shape == (units,)
        np.testing.assert_allclose(estimate.numpy(), self.brute_force(units), rtol=1e-9)

    def test_is_close_for_a_curved_loss(self) -> None:
        """First order: as the neurons shrink, the estimate comes near what removing one does."""
        small = (1e-3 * torch.tanh(self.rows @ self.weight_in.T)).requires_grad_()

        def loss(neurons: Tensor) -> Tensor:
            return torch.exp((neurons @ self.weight_out).sum(dim=1))  # (B,)

        loss(small).sum().backward()
        assert small.grad is not None
        estimate = taylor(small.detach(), small.grad, 6)
        for unit in range(6):
            without = small.detach().clone()
            without[..., unit] = 0
            change = (loss(without) - loss(small.detach())).abs().sum()
            assert estimate[unit].item() == pytest.approx(change.item(), rel=0.02)

    def test_a_dead_unit_does_not_matter(self) -> None:
        activation, gradient = made(2, 3, 4, seed=4), made(2, 3, 4, seed=5)
        activation[..., 2] = 0
        assert taylor(activation, gradient, 4)[2] == 0

    def test_rows_do_not_cancel_but_tokens_do(self) -> None:
        activation = torch.ones(2, 2, 1)
        across_rows = torch.tensor([[[1.0], [0.0]], [[-1.0], [0.0]]])
        across_tokens = torch.tensor([[[1.0], [-1.0]], [[1.0], [-1.0]]])
        assert taylor(activation, across_rows, 1).tolist() == [2.0]
        assert taylor(activation, across_tokens, 1).tolist() == [0.0]

    def test_batches_add_up(self) -> None:
        activation, gradient = made(6, 3, 8, seed=6), made(6, 3, 8, seed=7)
        parts = taylor(activation[:2], gradient[:2], 4) + taylor(activation[2:], gradient[2:], 4)
        torch.testing.assert_close(taylor(activation, gradient, 4), parts)


class TestMagnitude:
    def test_neurons(self) -> None:
        up, down = made(5, 3, seed=1), made(3, 5, seed=2)
        wanted = [np.linalg.norm(up[k].numpy()) * np.linalg.norm(down[:, k].numpy()) for k in range(5)]
        np.testing.assert_allclose(neuron_magnitude(up, down).numpy(), wanted)

    def test_neurons_do_not_mind_rescaling(self) -> None:
        """With a ReLU, c · up and down / c are the same neuron, and get the same score."""
        up, down = made(5, 3, seed=3), made(3, 5, seed=4)
        torch.testing.assert_close(neuron_magnitude(7 * up, down / 7), neuron_magnitude(up, down))

    def test_heads(self) -> None:
        output = made(6, 8, seed=5)  # four heads of two columns
        wanted = [np.linalg.norm(output[:, 2 * k : 2 * k + 2].numpy()) for k in range(4)]
        np.testing.assert_allclose(head_magnitude(output, 4).numpy(), wanted)


class TestMostImportant:
    def test_keeps_the_best_in_their_order(self) -> None:
        assert most_important(torch.tensor([3.0, 9.0, 1.0, 7.0]), 2).tolist() == [1, 3]
        assert most_important(torch.tensor([9.0, 1.0, 7.0, 3.0]), 3).tolist() == [0, 2, 3]

    def test_ties_go_to_the_lower_position(self) -> None:
        assert most_important(torch.tensor([1.0, 2.0, 2.0, 2.0, 1.0]), 2).tolist() == [1, 2]
        assert most_important(torch.tensor([1.0, 2.0, 1.0, 1.0]), 3).tolist() == [0, 1, 2]

    def test_all_equal(self) -> None:
        assert most_important(torch.zeros(1000), 500).tolist() == list(range(500))

    def test_all_kept(self) -> None:
        assert most_important(made(8, seed=1), 8).tolist() == list(range(8))
