import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dcao.operators import HessianOperator, make_hessian
from dcao.spectra.lanczos import lanczos
from helpers.cases import NETWORKS


def test_auto_is_exact_where_torch_can():
    problem = NETWORKS["gpt"].problem()
    operator = make_hessian(problem.loss, problem.params)
    v = torch.ones(problem.size, dtype=torch.float64)
    assert torch.equal(operator.matvec(v), HessianOperator(problem.loss, problem.params).matvec(v))
    assert (operator.kind, operator.reason) == ("exact", "double backward")


def test_auto_falls_back_where_the_fused_kernel_is_forced():
    problem = NETWORKS["gpt"].problem()

    def loss_fn():
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return problem.loss()

    operator = make_hessian(loss_fn, problem.params)
    found = lanczos(operator, tolerance=1e-6)
    exact = lanczos(HessianOperator(problem.loss, problem.params), tolerance=1e-6)
    assert operator.kind == "central"
    assert "double backward failed" in operator.reason
    assert "central finite differences, step length" in operator.reason
    torch.testing.assert_close(found.ritz_values, exact.ritz_values, rtol=1e-7, atol=0)


@pytest.mark.parametrize("backend", ["aot_eager"])
def test_a_compiled_model_falls_back_and_says_so(backend):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    compiled = torch.compile(model, backend=backend)
    x = torch.randn(6, 4, dtype=torch.float64)
    operator = make_hessian(lambda: compiled(x).square().mean(), model.parameters())
    v = torch.ones(operator.size, dtype=torch.float64)
    product = operator.matvec(v)
    assert operator.kind == "central"
    assert "does not currently support double backward" in operator.reason
    exact = HessianOperator(lambda: model(x).square().mean(), model.parameters()).matvec(v)
    torch.testing.assert_close(product, exact, rtol=0, atol=1e-8 * float(exact.norm()))
    assert operator.gradient_evaluations == 3.0  # the attempt built one graph


def test_half_precision_falls_back_at_once():
    w = torch.ones(2, requires_grad=True, dtype=torch.bfloat16)
    operator = make_hessian(lambda: w.float().pow(3).sum(), [w])
    assert operator.kind == "central"
    torch.testing.assert_close(operator.matvec(torch.ones(2)), torch.full((2,), 6.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("hvp", ["exact", "central", "forward"])
def test_a_kind_asked_for_is_the_kind_used(hvp):
    problem = NETWORKS["mlp"].problem()
    assert make_hessian(problem.loss, problem.params, hvp=hvp).kind == hvp


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r'hvp must be "auto", "exact", "central" or "forward", got \'fast\''):
        make_hessian(lambda: None, [torch.ones(1, requires_grad=True)], hvp="fast")
