import math

import pytest
import torch

from dcao.operators import MatrixOperator
from dcao.spectra.density import operator_density, spectral_density
from dcao.spectra.lanczos import LanczosStatus
from helpers.cases import NETWORKS, SPECTRUM_CASES
from helpers.reference import dense_hessian


def test_moments_are_those_of_the_eigenvalues():
    problem = NETWORKS["gpt"].problem()
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(problem))
    result = spectral_density(problem.loss, problem.params, num_steps=20, num_samples=200)
    for power in (1, 2):
        samples = eigenvalues**power
        # z'f(A)z / z'z scatters by sqrt(2) ||f(A)||_F / size over random starts: five standard errors of 200
        error = 5 * (2 / 200) ** 0.5 * float(samples.square().sum().sqrt()) / len(samples)
        assert result.moment(power) == pytest.approx(float(samples.mean()), abs=error)
    assert result.moment(0) == pytest.approx(1.0)


def test_the_density_is_that_of_a_known_spectrum():
    case = SPECTRUM_CASES[1]  # uniform on [-1, 1]
    result = operator_density(MatrixOperator(case.matrix()), num_steps=30, num_samples=50)
    grid = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64)
    density = result.density(grid, sigma=0.1)
    truth = torch.tensor(case.eigenvalues, dtype=torch.float64)
    expected = torch.exp(-0.5 * ((grid[:, None] - truth) / 0.1) ** 2).mean(dim=1) / (0.1 * math.sqrt(2 * math.pi))
    # 50 starts of 60 components: weights scatter by sqrt(2 / 50) a component, averaged over the dozen in 2 sigma
    assert (density - expected).abs().max() < 4 * 0.2 / 12**0.5 * expected.max()
    assert torch.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-4)


def test_a_single_eigenvalue_is_one_bump():
    result = operator_density(MatrixOperator(2 * torch.eye(5)), num_samples=2)
    assert (result.status, result.num_matvecs) == (LanczosStatus.INVARIANT, 2)
    assert result.nodes.tolist() == pytest.approx([2.0, 2.0])
    assert torch.isfinite(result.density(torch.tensor([2.0]))).all()


def test_nonfinite_products_are_a_status():
    result = operator_density(MatrixOperator(torch.full((3, 3), math.nan)), num_samples=2)
    assert result.status is LanczosStatus.NONFINITE
    assert len(result.nodes) == 0


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"num_samples must be at least 1, got 0"):
        operator_density(MatrixOperator(torch.eye(3)), num_samples=0)
    with pytest.raises(ValueError, match=r"num_steps must be at least 1, got 0"):
        operator_density(MatrixOperator(torch.eye(3)), num_steps=0)
    with pytest.raises(ValueError, match=r"sigma must be positive and finite, got -1"):
        operator_density(MatrixOperator(torch.eye(3))).density(torch.zeros(1), sigma=-1)
