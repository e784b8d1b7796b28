"""Every operator against a dense float64 Hessian made by other means, and what they all promise."""

import pytest
import torch
import torch.nn.functional as F

from dcao.operators import (
    BatchedOperator,
    FiniteDifferenceOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
    PreconditionedOperator,
    batched_hessian,
)
from helpers.cases import NETWORK_CASES, NETWORKS, SMOOTH_CASES
from helpers.reference import dense_hessian, dense_matrix


def by_name(case):
    return case.name


def directions(problem):
    return torch.randn(problem.size, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def products(operator, V):
    return torch.stack([operator.matvec(v) for v in V.T], dim=1)


RAGGED = [slice(0, 3), slice(3, 4), slice(4, 7)]


@pytest.mark.parametrize("case", NETWORK_CASES, ids=by_name)
def test_exact_products_are_the_dense_hessian(case):
    problem = case.problem()
    H = dense_matrix(HessianOperator(problem.loss, problem.params))
    # two orders of float64 rounding above eps for sums of some hundred terms
    torch.testing.assert_close(H, dense_hessian(problem), rtol=0, atol=1e-13)
    torch.testing.assert_close(H, H.T, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", NETWORK_CASES, ids=by_name)
@pytest.mark.parametrize("keep_graph", [True, False])
def test_ragged_batches_give_the_hessian_of_the_whole(case, keep_graph):
    problem = case.problem()
    batches = [(lambda rows=rows: problem.loss(rows), rows.stop - rows.start) for rows in RAGGED]
    operator = batched_hessian(batches, problem.params, keep_graph=keep_graph)
    V = directions(problem)
    torch.testing.assert_close(products(operator, V), dense_hessian(problem) @ V, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", SMOOTH_CASES, ids=by_name)
@pytest.mark.parametrize(("kind", "tolerance"), [("central", 1e-8), ("forward", 1e-6)])
def test_finite_differences_are_the_dense_hessian_of_a_smooth_loss(case, kind, tolerance):
    problem = case.problem()
    operator = FiniteDifferenceOperator(problem.loss, problem.params, kind=kind)
    V = directions(problem)
    truth = dense_hessian(problem) @ V
    # error ~ u**(2/3) = 2e-11 central, u**(1/2) = 1e-8 forward, times third derivatives: two orders of room
    atol = tolerance * float(truth.norm(dim=0).max())
    torch.testing.assert_close(products(operator, V), truth, rtol=0, atol=atol)


@pytest.mark.parametrize("case", NETWORK_CASES, ids=by_name)
def test_gauss_newton_is_the_hessian_without_the_curvature_of_the_model(case):
    problem = case.problem()
    operator = GGNOperator(problem.outputs, lambda outputs: problem.criterion(outputs, problem.targets), problem.params)
    outputs = problem.outputs()
    rows = [
        torch.autograd.grad(value, problem.params, retain_graph=True, allow_unused=True, materialize_grads=True)
        for value in outputs.flatten()
    ]
    J = torch.stack([torch.cat([piece.reshape(-1) for piece in row]) for row in rows])
    loss = lambda flat: problem.criterion(flat.view_as(outputs), problem.targets)  # noqa: E731
    H_L = torch.autograd.functional.hessian(loss, outputs.detach().flatten())
    torch.testing.assert_close(dense_matrix(operator), J.T @ H_L @ J, rtol=0, atol=1e-13)
    assert operator.gradient_evaluations == 1 + 2 * operator.size


def test_gauss_newton_of_a_linear_loss_is_zero():
    w = torch.ones(2, requires_grad=True)
    assert GGNOperator(lambda: w**2, torch.sum, [w]).matvec(torch.ones(2)).tolist() == [0.0, 0.0]


def test_gauss_newton_refuses_outputs_without_a_graph():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"model_fn must return a tensor with a graph"):
        GGNOperator(lambda: w.detach(), torch.sum, [w]).matvec(torch.ones(2))


def test_preconditioned_products_scale_both_sides():
    case = NETWORKS["mlp"]
    problem = case.problem()
    d = torch.rand(problem.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    operator = PreconditionedOperator(HessianOperator(problem.loss, problem.params), d)
    torch.testing.assert_close(
        dense_matrix(operator), d[:, None] * dense_hessian(problem) * d[None], rtol=0, atol=1e-13
    )
    assert operator.gradient_evaluations == 1 + 2 * operator.size


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_preconditioner_that_is_not_positive_is_refused(bad):
    with pytest.raises(ValueError, match=r"inverse_sqrt must be positive and finite everywhere"):
        PreconditionedOperator(MatrixOperator(torch.eye(2)), torch.tensor([1.0, bad]))


def test_a_preconditioner_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"inverse_sqrt must have shape \(2,\), the operator's size, got \(3,\)"):
        PreconditionedOperator(MatrixOperator(torch.eye(2)), torch.ones(3))


def test_a_loss_linear_in_its_parameters_has_no_curvature():
    w = torch.ones(3, requires_grad=True)
    assert HessianOperator(lambda: w.sum(), [w]).matvec(torch.ones(3)).tolist() == [0.0] * 3


def test_batched_cost_counts_each_part_by_its_share():
    eye = MatrixOperator(torch.eye(2))
    operator = BatchedOperator([eye, eye], [3, 1])
    operator.matvec(torch.ones(2))
    assert operator.gradient_evaluations == 1.0


@pytest.mark.parametrize(
    ("operators", "weights", "message"),
    [
        ([], [], r"operators must not be empty"),
        ([torch.eye(2)], [1, 2], r"got 1 operators and 2 weights"),
        ([torch.eye(2)], [0], r"weights must be positive and finite \(batch sizes\), got \[0\]"),
        ([torch.eye(2), torch.eye(3)], [1, 1], r"operators must be of equal size, got \[2, 3\]"),
    ],
)
def test_wrong_batches_are_refused(operators, weights, message):
    with pytest.raises(ValueError, match=message):
        BatchedOperator([MatrixOperator(matrix) for matrix in operators], weights)


def test_a_matrix_must_be_square():
    with pytest.raises(ValueError, match=r"matrix must be square, got shape \(2, 3\)"):
        MatrixOperator(torch.ones(2, 3))


def test_fused_attention_is_measured_under_the_math_backend_without_being_asked():
    q = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    w = torch.ones(8, requires_grad=True)
    loss_fn = lambda: F.scaled_dot_product_attention(q * w, q, q).square().sum()  # noqa: E731
    assert torch.isfinite(HessianOperator(loss_fn, [w]).matvec(torch.ones(8))).all()
