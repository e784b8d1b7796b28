import pytest
import torch

from dcao.operators import HessianOperator, evaluate_loss

W = torch.ones(8, requires_grad=True)


@pytest.mark.parametrize(
    ("loss_fn", "error", "message"),
    [
        (
            lambda: W * 2,
            ValueError,
            r"loss_fn must return a scalar, got shape \(8,\); reduce it, for example with .mean",
        ),
        (lambda: 1.0, TypeError, r"loss_fn must return a tensor, got float; return the loss alone, without .item\(\)"),
        (lambda: None, TypeError, r"loss_fn must return a tensor, got NoneType"),
        (lambda: W.detach().sum(), ValueError, r"loss_fn returned a loss without a graph"),
        (lambda: (W * 1j).sum(), TypeError, r"real floating-point loss, got torch.complex64"),
        (lambda: W.sum().long(), TypeError, r"real floating-point loss, got torch.int64"),
    ],
)
def test_a_loss_that_has_no_curvature_is_refused_at_once(loss_fn, error, message):
    with pytest.raises(error, match=message):
        evaluate_loss(loss_fn)
    with pytest.raises(error, match=message):
        HessianOperator(loss_fn, [W]).matvec(torch.ones(8))


def test_a_loss_of_one_element_counts_as_a_scalar():
    assert evaluate_loss(lambda: W.sum().reshape(1, 1)).shape == ()
