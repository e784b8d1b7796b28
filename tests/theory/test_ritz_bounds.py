"""What a Ritz value and its residual bound, and what they do not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dcao.operators import MatrixOperator
from dcao.spectra.lanczos import lanczos
from helpers.frozen_optimizer import seeded
from helpers.krylov_worst_case import Diagonal
from helpers.theorems import TOO_GOOD

SIZE = 12


def symmetric(seed: int) -> torch.Tensor:
    matrix = torch.randn(SIZE, SIZE, generator=seeded(seed), dtype=torch.float64)
    return matrix + matrix.T


@given(seed=st.integers(0, 10**6), num_steps=st.integers(1, 8))
def test_some_eigenvalue_is_within_the_residual_and_the_top_one_is_never_below(seed, num_steps):
    matrix = symmetric(seed)
    result = lanczos(MatrixOperator(matrix), num_steps=num_steps, generator=seeded(seed))
    theta, residual = result.ritz_values[0], result.residuals[0]
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert (eigenvalues - theta).abs().min() <= residual
    assert theta <= eigenvalues[-1] + 1e-12 * eigenvalues.abs().max()


def test_the_distance_is_the_residual_itself_in_the_worst_case():
    matrix = torch.tensor([[1.0, 0.3], [0.3, 1.0]], dtype=torch.float64)  # 1 +- 0.3, from the start e_1
    result = lanczos(MatrixOperator(matrix), num_steps=1, start=torch.tensor([1.0, 0.0], dtype=torch.float64))
    distance = 1.3 - result.ritz_values[0].item()
    assert distance == pytest.approx(result.residuals[0].item(), rel=1e-12)
    assert distance > result.residuals[0].item() / TOO_GOOD


@given(seed=st.integers(0, 10**6), num_steps=st.integers(1, 11))
def test_above_the_second_eigenvalue_the_error_is_at_most_the_residual_squared_over_the_gap(seed, num_steps):
    matrix = symmetric(seed)
    result = lanczos(MatrixOperator(matrix), num_steps=num_steps, generator=seeded(seed))
    theta, residual = result.ritz_values[0].item(), result.residuals[0].item()
    second, top = torch.linalg.eigvalsh(matrix)[-2:].tolist()
    if theta > second:
        assert top - theta <= residual**2 / (theta - second) + 1e-12 * abs(top)


@pytest.mark.parametrize("angle", [0.1, 0.5, 0.7])
def test_it_is_exactly_that_where_the_rest_of_the_ritz_vector_is_the_second_eigenvector(angle):
    start = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    result = lanczos(Diagonal(torch.tensor([3.0, 1.0]).double()), num_steps=1, start=start)
    theta, residual = result.ritz_values[0].item(), result.residuals[0].item()
    assert 3.0 - theta == pytest.approx(residual**2 / (theta - 1.0), rel=1e-9)
    assert 3.0 - theta > residual**2 / (theta - 1.0) / TOO_GOOD


# --- what they do not bound


def share_below(eigenvalues: torch.Tensor, num_steps: int, num_runs: int) -> float:
    """Share of random starts after which theta + residual is below the top eigenvalue."""
    generator = seeded(num_steps)
    below = 0
    for _ in range(num_runs):
        result = lanczos(Diagonal(eigenvalues), num_steps=num_steps, generator=generator)
        below += (result.ritz_values[0] + result.residuals[0] < eigenvalues.max() - 1e-12).item()
    return below / num_runs


def test_the_residual_is_no_upper_bound_for_the_top_after_few_products():
    # 300 runs: a share of 0.2 has a standard error of 0.023.
    even = torch.linspace(0.0, 1.0, 300, dtype=torch.float64)
    like_a_network = torch.cat([torch.tensor([1.0, 0.6, 0.4]).double(), torch.logspace(-0.7, -6, 297).double()])
    assert share_below(even, 3, 300) > 0.1
    assert share_below(like_a_network, 3, 300) > 0.05
    assert share_below(like_a_network, 10, 300) < 0.02


def test_a_start_without_the_top_eigenvector_converges_to_another_one_with_a_residual_of_zero():
    eigenvalues = torch.tensor([5.0, 2.0, 1.0], dtype=torch.float64)
    result = lanczos(Diagonal(eigenvalues), num_steps=3, start=torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64))
    assert result.ritz_values[0].item() == pytest.approx(2.0, rel=1e-12)
    assert result.residuals[0].item() < 1e-12
