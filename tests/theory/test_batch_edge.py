"""Where the measure `batch` has its edge at 2: exactly, for every family of batch Hessians that is not negative."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dcao.probing.directional import StepVectors, directional
from helpers.frozen_optimizer import seeded
from helpers.theorems import TOO_GOOD

NUM_BATCHES, SIZE = 6, 4


def family(seed: int) -> Tensor:
    """Positive semidefinite Hessians of very different sizes and ranks, ``(batches, size, size)``."""
    generator = seeded(seed)
    roots = torch.randn(NUM_BATCHES, SIZE, SIZE, generator=generator, dtype=torch.float64)
    ranks = torch.randint(1, SIZE + 1, (NUM_BATCHES,), generator=generator)
    keep = (torch.arange(SIZE) < ranks[:, None]).double()
    sizes = torch.randn(NUM_BATCHES, 1, 1, generator=generator, dtype=torch.float64).exp()
    return sizes * (roots * keep[:, None]) @ (roots * keep[:, None]).mT


def projections(seed: int, curvature: float) -> Tensor:
    """Hessians whose eigenvalues are 0 and that curvature, in other directions in each batch; their sum is regular."""
    roots = torch.randn(NUM_BATCHES, SIZE, 2, generator=seeded(seed), dtype=torch.float64)
    basis = torch.linalg.qr(roots).Q
    return curvature * basis @ basis.mT


def preconditioner(seed: int) -> Tensor:
    return 0.1 + torch.rand(SIZE, generator=seeded(seed + 1), dtype=torch.float64)


def weights(seed: int) -> Tensor:
    return torch.randn(SIZE, generator=seeded(seed + 2), dtype=torch.float64)


def batch_number(hessians: Tensor, w: Tensor, P: Tensor, lr: float) -> float:
    """The library's number over all batches: the measure `batch` at this lr."""
    steps = []
    for H in hessians:
        g = H @ w
        d = lr * g / P
        steps.append(
            StepVectors(gradient=[g], displacement=[d], past=None, product=lambda v, _, H=H: [H @ v[0]], weight=1.0)
        )
    return directional(steps).total


def growth(hessians: Tensor, w: Tensor, P: Tensor, lr: float) -> float:
    """E ||w||_P^2 after one step of torch's SGD with a random batch, in the coordinates of P, over that before."""
    weight = torch.nn.Parameter(w.expand(NUM_BATCHES, SIZE).clone())
    weight.grad = (hessians @ w) / P  # one row a batch; frozen P divides the gradient
    torch.optim.SGD([weight], lr=lr).step()
    return ((P * weight.detach().square()).sum(dim=1).mean() / (P * w.square()).sum()).item()


@given(seed=st.integers(0, 10**6))
def test_where_batch_is_below_2_the_mean_square_distance_falls_at_the_next_step(seed):
    hessians, w, P = family(seed), weights(seed), preconditioner(seed)
    lr = 1.9999 / batch_number(hessians, w, P, 1.0)
    assert growth(hessians, w, P, lr) < 1.0


@given(seed=st.integers(0, 10**6))
def test_the_edge_is_2_exactly_where_all_batches_have_one_curvature(seed):
    hessians, w, P = projections(seed, 3.0), weights(seed), torch.ones(SIZE, dtype=torch.float64)
    assert batch_number(hessians, w, P, 0.1) == pytest.approx(0.3, rel=1e-12)
    assert growth(hessians, w, P, 2.0 / 3.0) == pytest.approx(1.0, rel=1e-12)
    assert growth(hessians, w, P, TOO_GOOD * 2.0 / 3.0) > 1.0  # so an edge of 2.1 would be wrong
    assert growth(hessians, w, P, 2.0 / 3.0 / TOO_GOOD) < 1.0


# --- over a whole run: at the edge of the mean square


def second_moments(hessians: Tensor, lr: float) -> Tensor:
    eye = torch.eye(SIZE, dtype=torch.float64)
    return sum(torch.kron(eye - lr * H, eye - lr * H) for H in hessians) / len(hessians)


def edge_and_shape(hessians: Tensor) -> tuple[float, Tensor]:
    """The lr at which the mean square neither grows nor falls, and the E w w' that stays as it is there."""
    low, high = 0.0, 2.0 * SIZE / hessians.mean(dim=0).trace().item() * NUM_BATCHES
    for _ in range(60):
        middle = (low + high) / 2.0
        is_stable = torch.linalg.eigvals(second_moments(hessians, middle)).abs().max() < 1.0
        low, high = (middle, high) if is_stable else (low, middle)
    values, vectors = torch.linalg.eig(second_moments(hessians, low))
    shape = vectors[:, values.real.argmax()].real.reshape(SIZE, SIZE)
    return low, shape * shape.trace().sign()


def batch_number_of(hessians: Tensor, shape: Tensor, lr: float) -> float:
    """The same measure over all batches and over all w of that second moment."""
    roots = torch.linalg.cholesky(shape + 1e-13 * shape.trace() * torch.eye(SIZE, dtype=torch.float64))
    steps = [
        StepVectors(
            gradient=[H @ w],
            displacement=[lr * H @ w],
            past=None,
            product=lambda v, _, H=H: [H @ v[0]],
            weight=1.0,
        )
        for H in hessians
        for w in roots.T
    ]
    return directional(steps).total


@pytest.mark.parametrize("seed", range(12))
def test_at_the_edge_of_the_mean_square_batch_is_2_or_more(seed):
    hessians = family(seed)
    lr, shape = edge_and_shape(hessians)
    assert batch_number_of(hessians, shape, lr) >= 2.0 - 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_at_the_edge_of_the_mean_square_batch_is_2_where_all_batches_have_one_curvature(seed):
    hessians = projections(seed, 3.0)
    lr, shape = edge_and_shape(hessians)
    assert lr == pytest.approx(2.0 / 3.0, rel=1e-6)  # the eigenvalues of 16 by 16 matrices are good to 1e-9 here
    assert batch_number_of(hessians, shape, lr) == pytest.approx(2.0, rel=1e-6)
    assert second_moments_grow(hessians, TOO_GOOD * lr)


def second_moments_grow(hessians: Tensor, lr: float) -> bool:
    return bool(torch.linalg.eigvals(second_moments(hessians, lr)).abs().max() > 1.0)


# --- what it says of one batch


@given(seed=st.integers(0, 10**6), fraction=st.floats(0.1, 3.0))
def test_one_batchs_loss_falls_by_one_minus_half_of_its_number_times_the_slope(seed, fraction):
    H, w = family(seed)[0], weights(seed)
    g = H @ w
    lr = fraction * (g @ g / (g @ H @ g)).item()
    d = lr * g
    number = directional([StepVectors(gradient=[g], displacement=[d], past=None, product=product_of(H), weight=1.0)])
    change = ((w - d) @ H @ (w - d) - w @ H @ w).item() / 2.0
    slope = (g @ d).item()
    # Rounding: the two losses are subtracted.
    assert change == pytest.approx(-(1.0 - number.total / 2.0) * slope, rel=1e-9, abs=1e-12 * (w @ H @ w).item())


def product_of(H: Tensor):
    return lambda v, _: [H @ v[0]]


def test_single_batches_weighted_alike_understate_what_batches_together_do_not():
    # One direction, curvature 1 or 1 / 100 by a coin: the mean square is at its edge at lr = 2 E c / E c^2.
    curvatures = torch.tensor([1.0, 0.01], dtype=torch.float64)
    lr = 2.0 * curvatures.mean() / curvatures.square().mean()
    P = torch.ones(1, dtype=torch.float64)
    w = torch.ones(1, dtype=torch.float64)
    each = [batch_number(c.reshape(1, 1, 1), w, P, lr.item()) for c in curvatures]
    together = batch_number(curvatures.reshape(2, 1, 1), w, P, lr.item())
    mean = sum(each) / 2.0
    assert mean == pytest.approx((2.0 * curvatures.mean() ** 2 / curvatures.square().mean()).item(), rel=1e-12)
    assert mean < 1.03  # half of the edge
    assert together == pytest.approx((lr * (curvatures**3).mean() / (curvatures**2).mean()).item(), rel=1e-12)
    assert together > 2.0
