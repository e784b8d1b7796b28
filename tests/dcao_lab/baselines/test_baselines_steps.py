"""Steps of the optimizers that use second derivatives, against closed forms and dense matrices."""

import pytest
import torch
from torch import nn

import dcao
from dcao_lab.baselines.adler import Adler
from dcao_lab.baselines.cdat import CDAT
from dcao_lab.baselines.curvature import differentiable_gradient, gauss_newton_along_gradient, hessian_product
from dcao_lab.baselines.hutchinson import HutchinsonOptimizer, gaussian, over_kernels, rademacher
from dcao_lab.baselines.smoothed_ratio import SmoothedRatio


def generator():
    return torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(*shape, generator=generator(), dtype=torch.float64)


def least_squares():
    """0.5 mean |X w - y|^2, whose Hessian X'X / n is also its Gauss-Newton matrix."""
    model = nn.Linear(5, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(random(1, 5))
    inputs, targets = random(20, 5), random(20, 1).cos()
    loss_fn = lambda: 0.5 * (model(inputs) - targets).square().mean()  # noqa: E731
    gradient = (inputs.T @ (inputs @ model.weight.detach().T - targets) / 20).flatten()
    return model, loss_fn, gradient, inputs.T @ inputs / 20


def small_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    inputs, labels = random(7, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    loss_fn = lambda: nn.functional.cross_entropy(model(inputs), labels)  # noqa: E731
    return model, loss_fn, inputs, labels


def test_adler_steps_to_the_minimum_of_a_quadratic_along_the_gradient():
    model, loss_fn, gradient, hessian = least_squares()
    before = model.weight.detach().flatten().clone()
    eta = gradient @ gradient / (gradient @ hessian @ gradient)
    optimizer = Adler(model, smoothing=0.0)
    optimizer.minimize(loss_fn)
    torch.testing.assert_close(model.weight.detach().flatten(), before - eta * gradient)
    assert optimizer.effective_lrs == [pytest.approx(eta.item())]
    (after,) = torch.autograd.grad(loss_fn(), model.weight)
    assert abs(after.flatten() @ gradient) < 1e-12 * gradient @ gradient  # exact line search: no slope is left


def test_lr_multiplies_adlers_step_and_max_step_bounds_it():
    model, loss_fn, gradient, hessian = least_squares()
    eta = (gradient @ gradient / (gradient @ hessian @ gradient)).item()
    optimizer = Adler(model, lr=0.5, smoothing=0.0, max_step=eta / 4)
    optimizer.minimize(loss_fn)
    assert optimizer.step_size == pytest.approx(eta / 8)


def test_adlers_quadratic_form_is_the_gauss_newton_matrix_of_the_library():
    model, loss_fn, inputs, labels = small_network()
    params = list(model.parameters())
    ggn = dcao.operators.GGNOperator(
        lambda: model(inputs), lambda out: nn.functional.cross_entropy(out, labels), params
    )
    expected_gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss_fn(), params)])
    loss, gradient, curvature = gauss_newton_along_gradient(model, loss_fn, params)
    flat = torch.cat([g.flatten() for g in gradient])
    torch.testing.assert_close(loss, loss_fn().detach())
    torch.testing.assert_close(flat, expected_gradient)
    torch.testing.assert_close(curvature, flat @ ggn.matvec(flat))


def test_adler_refuses_a_loss_that_does_not_come_from_one_output():
    model, loss_fn, inputs, _ = small_network()
    with pytest.raises(ValueError, match="the loss must be a function of one output of the model, a tensor, got"):
        Adler(model).minimize(lambda: loss_fn() + model(inputs).square().mean())


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_cdats_first_step_on_a_quadratic_is_its_formula(sigma):
    model, loss_fn, gradient, hessian = least_squares()
    before = model.weight.detach().flatten().clone()
    u = -gradient / (gradient.abs() + 1e-8)  # Adam's first direction, bias-corrected
    eta = sigma * -(gradient @ u) / (u @ hessian @ u + 1e-8)
    optimizer = CDAT(model.parameters(), lr=sigma, smoothing=0.0)
    optimizer.minimize(loss_fn)
    torch.testing.assert_close(model.weight.detach().flatten(), before + eta * u)


def test_cdat_averages_numerator_and_denominator_apart():
    model, loss_fn, _, hessian = least_squares()
    optimizer = CDAT(model.parameters(), lr=2.0, smoothing=0.9)
    n_sum, d_sum, expected, etas = 0.0, 0.0, [], []
    mean, square = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for step in (1, 2, 3):
        (g,) = torch.autograd.grad(loss_fn(), model.weight)
        g = g.flatten()
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        u = -(mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        n_sum = 0.9 * n_sum + max(-(g @ u).item(), 0.0)
        d_sum = 0.9 * d_sum + abs((u @ hessian @ u).item()) + 1e-8
        expected.append(2.0 * n_sum / d_sum)
        optimizer.minimize(loss_fn)
        etas.append(optimizer.step_size)
    assert etas == pytest.approx(expected)


def test_cdat_does_not_move_up_the_slope():
    model, loss_fn, _, _ = least_squares()
    optimizer = CDAT(model.parameters(), smoothing=0.0)
    optimizer.minimize(loss_fn)
    state = optimizer.state[model.weight]
    (now,) = torch.autograd.grad(loss_fn(), model.weight)
    state["mean"].copy_(-100.0 * now)  # momentum that points uphill
    before = model.weight.detach().clone()
    optimizer.minimize(loss_fn)
    assert torch.equal(model.weight, before)


def test_products_with_the_hessian_are_the_dense_ones():
    model, loss_fn, inputs, labels = small_network()
    params = list(model.parameters())
    shapes = [p.shape for p in params]

    def loss_of(flat):
        pieces = flat.split([shape.numel() for shape in shapes])
        values = {n: p.view(s) for (n, _), p, s in zip(model.named_parameters(), pieces, shapes, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(model, values, (inputs,)), labels)

    flat = torch.cat([p.detach().flatten() for p in params])
    vector = [random(*shape) for shape in shapes]
    expected = torch.autograd.functional.hessian(loss_of, flat) @ torch.cat([v.flatten() for v in vector])
    _, gradient = differentiable_gradient(loss_fn, params)
    product = hessian_product(loss_fn, params, gradient, vector)
    torch.testing.assert_close(torch.cat([p.flatten() for p in product]), expected)


def test_where_torch_has_no_second_derivative_products_are_differences():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w):
            ctx.save_for_backward(w)
            return w**3

        @staticmethod
        def backward(ctx, grad):
            (w,) = ctx.saved_tensors
            return Once.apply(3 * w.square() * grad)

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("the derivative of 'Once' is not implemented")

    w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    loss_fn = lambda: Cube.apply(w).sum()  # noqa: E731
    _, gradient = differentiable_gradient(loss_fn, [w])
    (product,) = hessian_product(loss_fn, [w], gradient, [torch.ones(2, dtype=torch.float64)])
    torch.testing.assert_close(product, torch.tensor([6.0, 12.0], dtype=torch.float64), rtol=1e-6, atol=0.0)


class Listening(torch.optim.SGD):
    def __init__(self, params):
        super().__init__(params, lr=0.0)
        self.heard = []

    def step(self, closure=None, hessian=None):
        self.heard.append(hessian)


@pytest.mark.parametrize("draw", [rademacher, gaussian])
def test_hutchinson_estimates_average_to_the_diagonal(draw):
    model, loss_fn, _, hessian = least_squares()
    inner = Listening(model.parameters())
    optimizer = HutchinsonOptimizer(inner, draw=draw, every=1, seed=0)
    for _ in range(2000):
        optimizer.minimize(loss_fn)
    samples = torch.stack([estimate[0].flatten() for estimate in inner.heard])
    error = samples.std(dim=0) / len(samples) ** 0.5
    assert bool(((samples.mean(dim=0) - hessian.diagonal()).abs() < 4.5 * error).all())  # 4.5 sigma: 3e-5 for 5 entries


def test_estimates_come_every_few_steps_and_are_counted():
    model, loss_fn, _, _ = least_squares()
    inner = Listening(model.parameters())
    optimizer = HutchinsonOptimizer(inner, draw=rademacher, every=3, seed=0)
    for _ in range(7):
        optimizer.minimize(loss_fn)
    assert [estimate is not None for estimate in inner.heard] == [True, False, False, True, False, False, True]
    assert optimizer.probe_cost == 3 * 2.0


def test_averages_over_kernels_are_those_of_absolute_values():
    estimate = random(2, 3, 4, 5)
    averaged = over_kernels(estimate)
    assert averaged.shape == estimate.shape
    torch.testing.assert_close(averaged[1, 2], torch.full((4, 5), estimate[1, 2].abs().mean(), dtype=torch.float64))
    assert torch.equal(over_kernels(estimate[0, 0]), estimate[0, 0])


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_smoothing_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"smoothing must be in \[0, 1\), got"):
        SmoothedRatio(decay)
