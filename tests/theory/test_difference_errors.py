"""What a finite difference of gradients is off by, and the step length at which that is least."""

from __future__ import annotations

import pytest
import torch

from dcao import hessian_spectrum
from dcao.operators import FiniteDifferenceOperator, HessianOperator, default_step_length
from helpers.cases import NETWORKS
from helpers.frozen_optimizer import seeded
from helpers.theorems import TOO_GOOD

STEP = 0.01


def product_of_a_power(power: int, kind: str) -> float:
    """By differences of the gradient of ``sum w^power / power!`` at w = 1, along the first axis."""
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    factorial = {3: 6.0, 4: 24.0}[power]
    operator = FiniteDifferenceOperator(
        lambda: (weight**power).sum() / factorial, [weight], kind=kind, step_length=STEP
    )
    return operator.matvec(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))[0].item()


def test_central_differences_are_off_by_a_sixth_of_the_fourth_derivative_times_the_step_squared():
    error = product_of_a_power(4, "central") - 0.5  # the second derivative of w^4 / 24 at 1; the fourth is 1
    assert error == pytest.approx(STEP**2 / 6.0, rel=1e-8)
    assert error > STEP**2 / 6.0 / TOO_GOOD


def test_forward_differences_are_off_by_half_the_third_derivative_times_the_step():
    error = product_of_a_power(3, "forward") - 1.0  # the second derivative of w^3 / 6 at 1; the third is 1
    assert error == pytest.approx(STEP / 2.0, rel=1e-8)
    assert error > STEP / 2.0 / TOO_GOOD


@pytest.mark.parametrize(("kind", "worst"), [("central", 1.0), ("forward", 2.0)])
def test_gradients_that_are_off_by_rho_make_a_product_off_by_as_much_over_the_step(kind, worst):
    rho, weight = 1e-6, torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def gradient() -> list[torch.Tensor]:
        """Of zero curvature, with the errors of the two evaluations in opposite directions."""
        ahead = weight.detach()[0] > 0.0
        return [torch.tensor([rho if ahead else -rho, 0.0, 0.0], dtype=torch.float64)]

    operator = FiniteDifferenceOperator(gradient_fn=gradient, params=[weight], kind=kind, step_length=STEP)
    error = operator.matvec(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))[0].item()
    assert error == pytest.approx(worst * rho / STEP, rel=1e-9)
    assert error > worst * rho / STEP / TOO_GOOD


def test_the_best_steps_are_those_of_the_page():
    sp = pytest.importorskip("sympy", reason="dcao[theory] is not installed")
    rho, M, e = sp.symbols("rho M e", positive=True)
    central, forward = rho / e + M * e**2 / 6, 2 * rho / e + M * e / 2
    best_central, best_forward = (3 * rho / M) ** sp.Rational(1, 3), 2 * sp.sqrt(rho / M)
    assert sp.simplify(central.diff(e).subs(e, best_central)) == 0
    assert sp.simplify(forward.diff(e).subs(e, best_forward)) == 0
    assert sp.simplify(central.subs(e, best_central) - sp.Rational(3, 2) * rho / best_central) == 0
    assert sp.simplify(forward.subs(e, best_forward) - 2 * sp.sqrt(rho * M)) == 0
    # A step that is off by a factor f multiplies the error by (2 / f + f^2) / 3: 1.7 at f = 2, 1.4 at f = 1 / 2
    factor = sp.Symbol("f", positive=True)
    cost = central.subs(e, factor * best_central) / central.subs(e, best_central)
    assert sp.simplify(cost - (2 / factor + factor**2) / 3) == 0


@pytest.mark.parametrize("kind", ["central", "forward"])
def test_the_default_step_in_float32_is_within_a_factor_of_4_of_the_best_error_on_a_network(kind):
    exact, rounded = NETWORKS["mlp"].problem(torch.float64), NETWORKS["mlp"].problem(torch.float32)
    vector = torch.randn(exact.size, generator=seeded(0), dtype=torch.float64)
    vector /= vector.norm()
    with HessianOperator(exact.loss, exact.params) as hessian:
        truth = hessian.matvec(vector)

    def error(step_length: float) -> float:
        operator = FiniteDifferenceOperator(rounded.loss, rounded.params, kind=kind, step_length=step_length)
        return ((operator.matvec(vector.float()).double() - truth).norm() / truth.norm()).item()

    default = default_step_length(rounded.params, kind)
    best = min(error(default * 2.0**power) for power in range(-5, 6))
    assert error(default) < 4.0 * best
    # The powers of the roundoff, 6e-8: 2e-5 and 2e-4, times what the network's third and fourth derivative are.
    assert error(default) < (1e-4 if kind == "central" else 2e-3)


def test_a_ritz_value_is_off_by_no_more_than_the_products_are():
    problem = NETWORKS["mlp"].problem(torch.float64)
    exact = hessian_spectrum(problem.loss, problem.params, 1, hvp="exact", tolerance=1e-8, num_steps=60)
    for step_length in (1e-1, 3e-1):
        differences = hessian_spectrum(
            problem.loss, problem.params, 1, hvp="central", step_length=step_length, tolerance=None, vectors=True
        )
        assert differences.ritz_vectors is not None
        y = differences.ritz_vectors[0]
        operator = FiniteDifferenceOperator(problem.loss, problem.params, step_length=step_length)
        with HessianOperator(problem.loss, problem.params) as hessian:
            off = (operator.matvec(y) - hessian.matvec(y)).norm().item()
        # theta = y' F y <= y' H y + ||F y - H y|| <= lambda_1 + ||F y - H y||
        assert differences.ritz_values[0].item() <= exact.ritz_values[0].item() + off + 1e-9
