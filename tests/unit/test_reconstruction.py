"""The least squares of what stays, held against torch.linalg.lstsq, exact recovery, and data that says too little."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgetf.algorithms.reconstruction import Moments, solve_masks, solve_weights

torch.set_num_threads(1)

both_widths = pytest.mark.parametrize("width", [1, 3])


def made(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seen(activation: Tensor, wanted: Tensor) -> Moments:
    moments = Moments.empty(activation.shape[1], wanted.shape[1])
    moments.add(activation, wanted)
    return moments


def error(activation: Tensor, weight: Tensor, wanted: Tensor) -> float:
    return float((activation @ weight.T - wanted).pow(2).sum())


def scaled(weight: Tensor, masks: Tensor, width: int) -> Tensor:
    return weight * masks.repeat_interleave(width)


class Case:
    """Four units of which three stay: kept activations A (T, 3 D), kept weights (H, 3 D), the dense output (T, H)."""

    def __init__(self, width: int, rows: int = 80, noise: float = 1.0) -> None:
        self.kept = made(rows, 3 * width, seed=1) + 0.5  # activations have a mean
        mixed = self.kept @ made(3 * width, width, seed=2)
        gone = mixed + noise * made(rows, width, seed=3)
        self.weight, lost = made(5, 3 * width, seed=4), made(5, width, seed=5)
        self.wanted = self.kept @ self.weight.T + gone @ lost.T
        self.moments = seen(self.kept, self.wanted)


class TestMoments:
    def test_are_the_sums(self) -> None:
        activation, wanted = made(7, 3, seed=1), made(7, 2, seed=2)
        moments = seen(activation, wanted)
        torch.testing.assert_close(moments.gram, activation.T @ activation)
        torch.testing.assert_close(moments.cross, activation.T @ wanted)
        assert moments.count == 7

    def test_batches_add_up(self) -> None:
        activation, wanted = made(7, 3, seed=3), made(7, 2, seed=4)
        whole, parts = seen(activation, wanted), seen(activation[:2], wanted[:2])
        parts.add(activation[2:], wanted[2:])
        torch.testing.assert_close(parts.gram, whole.gram)
        torch.testing.assert_close(parts.cross, whole.cross)
        assert parts.count == whole.count

    def test_sum_in_double_precision(self) -> None:
        """1 beside 1e9 is nothing in float32."""
        moments = seen(torch.tensor([[31623.0], [1.0]]), torch.zeros(2, 1))
        assert moments.gram.item() == 31623.0**2 + 1

    def test_keep_no_graph(self) -> None:
        moments = seen(made(4, 2, seed=5).requires_grad_(), made(4, 2, seed=6).requires_grad_())
        assert not moments.gram.requires_grad and not moments.cross.requires_grad


class TestWeights:
    @both_widths
    def test_recovers_a_unit_that_the_others_make_up(self, width: int) -> None:
        case = Case(width, noise=0.0)
        solved = solve_weights(case.moments, case.weight, ridge=0.0)
        torch.testing.assert_close(case.kept @ solved.T, case.wanted, rtol=1e-6, atol=1e-6)

    @both_widths
    def test_agrees_with_lstsq(self, width: int) -> None:
        case = Case(width)
        wanted = torch.linalg.lstsq(case.kept, case.wanted).solution.T
        torch.testing.assert_close(solve_weights(case.moments, case.weight, 0.0), wanted, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
    def test_minimizes_the_objective(self, ridge: float) -> None:
        """lstsq with the ridge as further rows, as many as there are inputs."""
        case = Case(2)
        root = (ridge * case.moments.gram.diagonal().mean()).sqrt() * torch.eye(6, dtype=torch.float64)
        rows, wanted = torch.cat([case.kept, root]), torch.cat([case.wanted, root @ case.weight.T])
        solution = torch.linalg.lstsq(rows, wanted).solution.T
        torch.testing.assert_close(solve_weights(case.moments, case.weight, ridge), solution)

    @pytest.mark.parametrize("ridge", [0.0, 1e-4, 1.0, 1e6])
    @pytest.mark.parametrize("rows", [1, 2, 5, 80])
    def test_never_fits_worse_than_before(self, ridge: float, rows: int) -> None:
        case = Case(2, rows)
        before = error(case.kept, case.weight, case.wanted)
        assert error(case.kept, solve_weights(case.moments, case.weight, ridge), case.wanted) <= before

    def test_huge_ridge_changes_nothing(self) -> None:
        case = Case(2)
        torch.testing.assert_close(solve_weights(case.moments, case.weight, 1e15), case.weight)

    @both_widths
    def test_fits_at_least_as_well_as_masks(self, width: int) -> None:
        case = Case(width)
        masked = scaled(case.weight, solve_masks(case.moments, case.weight, width, 0.0), width)
        solved = solve_weights(case.moments, case.weight, 0.0)
        assert error(case.kept, solved, case.wanted) < error(case.kept, masked, case.wanted)

    def test_moves_only_where_rows_speak(self) -> None:
        """One row fixes one direction; across it the weights stay as they were."""
        case = Case(2, rows=1)
        change = solve_weights(case.moments, case.weight, 1e-8) - case.weight
        across = made(6, seed=9)
        across -= case.kept[0] * (case.kept[0] @ across) / case.kept[0].pow(2).sum()
        torch.testing.assert_close(change @ across, torch.zeros(5, dtype=torch.float64), atol=1e-6, rtol=0)

    def test_keeps_the_type_of_the_weights(self) -> None:
        case = Case(1)
        assert solve_weights(case.moments, case.weight.float(), 0.1).dtype == torch.float32
        assert solve_masks(case.moments, case.weight.float(), 1, 0.1).dtype == torch.float32


class TestMasks:
    @both_widths
    def test_recovers_factors(self, width: int) -> None:
        case, factors = Case(width), torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
        moments = seen(case.kept, case.kept @ scaled(case.weight, factors, width).T)
        torch.testing.assert_close(solve_masks(moments, case.weight, width, 0.0), factors, rtol=1e-6, atol=1e-7)

    @both_widths
    def test_recovers_a_unit_that_is_a_copy(self, width: int) -> None:
        """The unit that went had the same activations and weights as one that stays, which now counts twice."""
        case, double = Case(width), torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
        moments = seen(case.kept, case.kept @ scaled(case.weight, double, width).T)
        torch.testing.assert_close(solve_masks(moments, case.weight, width, 0.0), double, rtol=1e-6, atol=1e-7)

    @both_widths
    @pytest.mark.parametrize("ridge", [0.0, 1e-2, 1.0])
    def test_minimizes_the_objective(self, width: int, ridge: float) -> None:
        """lstsq over what each unit gives, written out, with the ridge as further rows."""
        case = Case(width)
        parts = case.kept.view(-1, 3, width), case.weight.view(5, 3, width)
        given = torch.einsum("tud,hud->thu", *parts).reshape(-1, 3)  # (T · H, U)
        root = (ridge * given.pow(2).sum(dim=0).mean()).sqrt()
        rows = torch.cat([given, root * torch.eye(3, dtype=torch.float64)])
        wanted = torch.cat([case.wanted.reshape(-1), root * torch.ones(3, dtype=torch.float64)])
        solution = torch.linalg.lstsq(rows, wanted[:, None]).solution[:, 0]
        solved = solve_masks(case.moments, case.weight, width, ridge)
        torch.testing.assert_close(solved, solution, rtol=1e-6, atol=1e-7)

    @both_widths
    @pytest.mark.parametrize("ridge", [0.0, 1e-4, 1.0, 1e6])
    @pytest.mark.parametrize("rows", [1, 2, 5, 80])
    def test_never_fits_worse_than_before(self, width: int, ridge: float, rows: int) -> None:
        case = Case(width, rows)
        masked = scaled(case.weight, solve_masks(case.moments, case.weight, width, ridge), width)
        assert error(case.kept, masked, case.wanted) <= error(case.kept, case.weight, case.wanted)

    def test_huge_ridge_gives_ones(self) -> None:
        case = Case(2)
        torch.testing.assert_close(solve_masks(case.moments, case.weight, 2, 1e15), torch.ones(3, dtype=torch.float64))

    def test_a_dead_unit_keeps_its_factor(self) -> None:
        case = Case(2)
        case.kept[:, 2:4] = 0
        assert solve_masks(seen(case.kept, case.wanted), case.weight, 2, 0.0)[1] == 1


class TestTooLittleData:
    @pytest.mark.parametrize("ridge", [0.0, 1e-2])
    @pytest.mark.parametrize("rows", [0, 3])
    def test_no_activation_changes_nothing(self, ridge: float, rows: int) -> None:
        weight, moments = made(5, 6, seed=1), Moments.empty(6, 5)
        moments.add(torch.zeros(rows, 6), made(rows, 5, seed=2))
        assert solve_weights(moments, weight, ridge).equal(weight)
        assert solve_masks(moments, weight, 2, ridge).equal(torch.ones(3, dtype=torch.float64))

    @pytest.mark.parametrize("largest", [1.0, 1e4])
    def test_copies_and_few_rows_stay_finite(self, largest: float) -> None:
        """300 inputs, each four times, from 20 rows, one of them far larger than the others."""
        base = made(20, 75, seed=3)
        base[:, 0] *= largest
        activation, weight = base.repeat(1, 4), made(5, 300, seed=4)
        wanted = activation @ weight.T + made(20, 5, seed=5)
        moments = seen(activation, wanted)
        solved = solve_weights(moments, weight, 0.0)
        assert (solved - weight).abs().max() < 10 * weight.abs().max()
        assert error(activation, solved, wanted) < 0.01 * error(activation, weight, wanted)
        assert solve_masks(moments, weight, 1, 0.0).isfinite().all()

    def test_a_ridge_tames_few_noisy_rows(self) -> None:
        """Seven rows of six inputs: without a ridge the fit is of the noise, and fails on rows it has not seen."""
        case, truth = Case(2, rows=7, noise=0.0), Case(2, rows=400, noise=0.0)
        moments = seen(case.kept, case.kept @ case.weight.T + 3 * made(7, 5, seed=6))
        clean = truth.kept @ case.weight.T
        errors = [error(truth.kept, solve_weights(moments, case.weight, ridge), clean) for ridge in (0.0, 0.1, 1.0)]
        assert errors[0] > 2 * errors[1] > 2 * errors[2]
