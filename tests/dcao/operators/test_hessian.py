import pytest
import torch
from torch import nn

from dcao.operators import FiniteDifferenceOperator, HessianOperator, Unsupported, make_hessian
from helpers.cases import NETWORKS


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


def test_a_loss_without_second_derivative_is_unsupported():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(Unsupported, match=r"double backward failed: .*once_differentiable"):
        HessianOperator(lambda: Once.apply(w).square().sum(), [w]).matvec(torch.ones(2))


def test_half_precision_parameters_are_unsupported():
    w = torch.ones(2, requires_grad=True, dtype=torch.bfloat16)
    with pytest.raises(Unsupported, match=r"torch.bfloat16 parameters"):
        HessianOperator(lambda: w.sum(), [w])


def test_other_errors_of_the_loss_pass_through():
    def loss_fn():
        raise RuntimeError("out of cheese")

    with pytest.raises(RuntimeError, match="out of cheese"):
        make_hessian(loss_fn, [torch.ones(1, requires_grad=True)]).matvec(torch.ones(1))


def test_the_graph_is_kept_across_products_and_freed_on_close():
    calls = []
    w = torch.ones(2, requires_grad=True)

    def loss_fn():
        calls.append(1)
        return (w**3).sum()

    with HessianOperator(loss_fn, [w]) as hessian:
        hessian.matvec(torch.ones(2))
        hessian.matvec(torch.ones(2))
        assert len(calls) == 1
        assert hessian.gradient_evaluations == 5.0
    hessian.matvec(torch.ones(2))
    assert len(calls) == 2


def test_loss_and_gradient_come_with_the_graph():
    problem = NETWORKS["mlp"].problem()
    hessian = HessianOperator(problem.loss, problem.params)
    expected = torch.autograd.grad(problem.loss(), problem.params)
    torch.testing.assert_close(hessian.loss, problem.loss().detach())
    torch.testing.assert_close(hessian.gradient, torch.cat([g.reshape(-1) for g in expected]))
    assert hessian.gradient_evaluations == 1.0


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 1))

    def forward(self, x):
        return self.body(x).square().mean()


@pytest.mark.parametrize("hvp", ["exact", "central", "forward", "auto"])
def test_products_leave_no_trace_and_see_one_dropout_mask(hvp):
    torch.manual_seed(0)
    model = Dropped().double()
    x = torch.randn(16, 4, dtype=torch.float64)
    model(x).backward()
    params = list(model.parameters())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads, stream = [p.grad.clone() for p in params], torch.get_rng_state()

    operator = make_hessian(lambda: model(x), params, hvp=hvp)
    v = torch.randn(operator.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, again = operator.matvec(v), operator.matvec(v)

    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), stream)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(torch.equal(p.grad, g) for p, g in zip(params, grads, strict=True))
    exact = HessianOperator(lambda: model(x), params).matvec(v)
    # forward differences: sqrt(u) = 1e-8 times the third derivative over the curvature
    torch.testing.assert_close(first, exact, rtol=0, atol=1e-5 * float(exact.norm()))


def test_a_graph_of_the_caller_survives_a_probe():
    torch.manual_seed(0)
    model = Dropped().double()
    x = torch.randn(16, 4, dtype=torch.float64)
    loss = model(x)
    operator = FiniteDifferenceOperator(lambda: model(x), model.parameters())
    operator.matvec(torch.ones(operator.size, dtype=torch.float64))
    loss.backward()


def test_a_random_state_given_decides_the_dropout_mask():
    from dcao.isolation import capture_rng

    torch.manual_seed(0)
    model = Dropped().double()
    x, params = torch.randn(16, 4, dtype=torch.float64), list(model.parameters())
    state = capture_rng(params)
    loss = model(x)
    hessian = HessianOperator(lambda: model(x), params, rng_state=state)
    # BatchNorm in train mode does not read its running statistics, so the same mask gives the same loss
    torch.testing.assert_close(hessian.loss, loss.detach(), rtol=0, atol=0)
