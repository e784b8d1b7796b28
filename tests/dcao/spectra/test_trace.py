import math

import pytest
import torch

from dcao.operators import MatrixOperator
from dcao.spectra.trace import hessian_trace, operator_trace
from helpers.cases import NETWORKS, SPECTRUM_CASES
from helpers.reference import dense_hessian

NETWORK_LIKE = SPECTRUM_CASES[0]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_the_estimate_is_unbiased_and_its_standard_error_is_honest(method):
    matrix = NETWORK_LIKE.matrix()
    generator = seeded(0)
    results = [
        operator_trace(MatrixOperator(matrix), num_samples=12, method=method, generator=generator) for _ in range(400)
    ]
    errors = torch.tensor([r.trace - float(matrix.trace()) for r in results])
    scatter = float(errors.std())
    assert abs(errors.mean()) < 4 * scatter / 400**0.5  # four standard errors of the mean
    reported = (sum(r.standard_error**2 for r in results) / 400) ** 0.5
    # root mean square of the reported errors against the scatter seen: each known to some 5 % from 400 runs
    assert reported == pytest.approx(scatter, rel=0.2)


def test_hutch_plus_plus_is_exact_for_low_rank():
    u = torch.randn(40, 2, dtype=torch.float64, generator=seeded(1))
    result = operator_trace(MatrixOperator(u @ u.T), num_samples=9, method="hutch++")
    assert result.trace == pytest.approx(float(u.square().sum()), rel=1e-12)
    assert result.standard_error < 1e-12
    assert result.num_matvecs == 8  # 3 to find the range, 2 in it, 3 beside it


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_it_is_the_trace_of_the_dense_hessian(method):
    problem = NETWORKS["mlp"].problem()
    result = hessian_trace(problem.loss, problem.params, num_samples=60, method=method)
    truth = float(dense_hessian(problem).trace())
    assert abs(result.trace - truth) < 4 * result.standard_error
    assert result.standard_error < 0.3 * truth
    assert (result.num_matvecs, result.cost) == (60, 121.0)


def test_a_nonfinite_product_gives_nan():
    assert math.isnan(operator_trace(MatrixOperator(torch.full((2, 2), math.nan))).trace)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 1}, r"num_samples must be at least 2, to give a standard error, got 1"),
        ({"num_samples": 5, "method": "hutch++"}, r"num_samples must be at least 6, .* got 5"),
        ({"method": "xtrace"}, r"method must be \"hutchinson\" or \"hutch\+\+\", got 'xtrace'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        operator_trace(MatrixOperator(torch.eye(3)), **arguments)
