import pytest
import torch
from torch import nn

from dcao.operators import FiniteDifferenceOperator, HessianOperator, default_step_length
from helpers.cases import NETWORKS, SMOOTH_CASES


def ones(problem, dtype=torch.float64):
    return torch.ones(problem.size, dtype=dtype)


def test_the_displacement_has_the_step_length_whatever_the_vector():
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    seen = []

    def loss_fn():
        seen.append(w.detach().clone())
        return w.square().sum()

    FiniteDifferenceOperator(loss_fn, [w], step_length=0.25).matvec(1e9 * torch.ones(3, dtype=torch.float64))
    assert [float(point.norm()) for point in seen] == pytest.approx([0.25, 0.25])
    torch.testing.assert_close(seen[0], -seen[1])


@pytest.mark.parametrize(("kind", "calls"), [("central", 4), ("forward", 3)])
def test_cost_counts_gradients(kind, calls):
    problem = NETWORKS["mlp"].problem()
    operator = FiniteDifferenceOperator(problem.loss, problem.params, kind=kind)
    operator.matvec(ones(problem))
    operator.matvec(ones(problem))
    assert operator.gradient_evaluations == calls


def test_a_known_base_gradient_is_not_evaluated_again():
    problem = NETWORKS["mlp"].problem()
    gradient = HessianOperator(problem.loss, problem.params).gradient
    known = FiniteDifferenceOperator(problem.loss, problem.params, kind="forward", base_gradient=gradient)
    fresh = FiniteDifferenceOperator(problem.loss, problem.params, kind="forward")
    torch.testing.assert_close(known.matvec(ones(problem)), fresh.matvec(ones(problem)), rtol=0, atol=1e-7)
    assert known.gradient_evaluations == 1.0


@pytest.mark.parametrize("case", SMOOTH_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(("kind", "tolerance"), [("central", 2e-4), ("forward", 5e-3)])
def test_default_steps_keep_float32_products_usable(case, kind, tolerance):
    exact, problem = case.problem(), case.problem(torch.float32)
    v = torch.randn(problem.size, generator=torch.Generator().manual_seed(0))
    truth = HessianOperator(exact.loss, exact.params).matvec(v.double())
    product = FiniteDifferenceOperator(problem.loss, problem.params, kind=kind).matvec(v)
    # measured 2e-5..4e-5 central and 6e-4..1.4e-3 forward (benchmarks/step_length.py); rounding differs by platform
    assert torch.linalg.vector_norm(product.double() - truth) <= tolerance * torch.linalg.vector_norm(truth)


def test_a_kink_is_seen_as_the_average_curvature_of_the_step():
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    operator = FiniteDifferenceOperator(lambda: torch.relu(w).sum(), [w], step_length=0.05)
    assert operator.matvec(torch.ones(1, dtype=torch.float64)).item() == pytest.approx(1 / (2 * 0.05))
    assert HessianOperator(lambda: torch.relu(w).sum(), [w]).matvec(torch.ones(1, dtype=torch.float64)).item() == 0.0


def test_gradients_of_a_closure_serve_as_well():
    problem = NETWORKS["mlp"].problem()

    def closure():
        problem.model.zero_grad()
        problem.loss().backward()
        return [p.grad for p in problem.params]

    for p in problem.params:
        p.grad = torch.full_like(p, 7.0)
    by_closure = FiniteDifferenceOperator(params=problem.params, gradient_fn=closure).matvec(ones(problem))
    by_loss = FiniteDifferenceOperator(problem.loss, problem.params).matvec(ones(problem))
    assert torch.equal(by_closure, by_loss)
    assert all((p.grad == 7.0).all() for p in problem.params)


def test_parameters_are_restored_bit_for_bit_after_an_exception():
    w = torch.rand(50, requires_grad=True)
    before, version = w.detach().clone(), w._version

    def loss_fn():
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        FiniteDifferenceOperator(loss_fn, [w]).matvec(torch.ones(50))
    assert torch.equal(w, before)
    assert w._version == version


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["central", "forward"])
def test_half_precision_parameters_are_measured_in_float32_copies(dtype, kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Tanh(), nn.Linear(4, 1)).to(dtype)
    loss_fn = lambda: model(torch.arange(5)).float().square().mean()  # noqa: E731
    params = list(model.parameters())
    before = [p.detach().clone() for p in params]
    v = torch.randn(sum(p.numel() for p in params), generator=torch.Generator().manual_seed(0))
    product = FiniteDifferenceOperator(loss_fn, params, kind=kind).matvec(v)
    for p, old in zip(params, before, strict=True):
        assert p.dtype is dtype
        assert torch.equal(p, old)
    exact = HessianOperator(loss_fn, model.double().parameters()).matvec(v.double())
    assert torch.linalg.vector_norm(product - exact) <= 1e-2 * torch.linalg.vector_norm(exact)


def test_moved_weights_are_seen_inside_the_autocast_context_of_the_caller():
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1), torch.ones(4, 3)
    loss_fn = lambda: model(x).float().square().mean()  # noqa: E731
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_fn()  # fills the cache of low-precision weights
        product = FiniteDifferenceOperator(loss_fn, model.parameters(), step_length=0.5).matvec(torch.ones(4))
    # d2/dw2 of (w'x + b)**2 is 2 (x, 1)(x, 1)'; times ones(4): 8. bfloat16 outputs: 2**-8 of values near 1, over
    # step 0.5
    torch.testing.assert_close(product, torch.full((4,), 8.0), rtol=0.05, atol=0)


def test_the_zero_vector_costs_nothing():
    problem = NETWORKS["mlp"].problem()
    operator = FiniteDifferenceOperator(problem.loss, problem.params)
    assert not operator.matvec(torch.zeros(problem.size, dtype=torch.float64)).any()
    assert operator.gradient_evaluations == 0.0


def test_default_step_length_grows_with_the_square_root_of_the_parameters():
    small, large = [torch.ones(1)], [torch.ones(10_000)]
    assert default_step_length(large) == pytest.approx(10 * default_step_length(small))
    assert default_step_length(small, "forward") < default_step_length(small, "central")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"give exactly one of loss_fn and gradient_fn"),
        ({"loss_fn": torch.sum, "gradient_fn": list}, r"give exactly one of loss_fn and gradient_fn"),
        (
            {"loss_fn": torch.sum, "kind": "backward"},
            r"kind must be \"central\" or \"forward\", got 'backward'",
        ),
        ({"loss_fn": torch.sum, "step_length": 0.0}, r"step_length must be positive and finite, got 0.0"),
        (
            {"loss_fn": torch.sum, "base_gradient": torch.ones(3)},
            r"base_gradient must have shape \(2,\), got \(3,\)",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FiniteDifferenceOperator(params=[torch.ones(2, requires_grad=True)], **arguments)


def test_a_wrong_number_of_gradients_is_refused():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"gradient_fn must return one gradient for each of the 1 parameters"):
        FiniteDifferenceOperator(params=[w], gradient_fn=list).matvec(torch.ones(2))
