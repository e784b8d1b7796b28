"""Gradients that flow in float16 neither vanish nor overflow, and what is not finite by itself stays so."""

from __future__ import annotations

import math

import pytest
import torch

from dcao.operators import FiniteDifferenceOperator
from dcao.operators.differentiation import Differentiation, again_if_refused
from dcao.operators.loss_scale import CUT, FIRST, flows_in_float16


def gradient(differentiation: Differentiation, w: torch.Tensor, size: float, **settings) -> tuple[list[float], int]:
    """Of ``size * sum(w^2 / 2)`` by float16, and how often the loss was evaluated."""
    calls = []

    def evaluate() -> list[torch.Tensor]:
        calls.append(1)
        return differentiation.gradient((size * w.half().float().square() / 2).sum(), [w], **settings)

    return again_if_refused(evaluate)[0].tolist(), len(calls)


def test_a_gradient_below_the_numbers_of_float16_is_no_zero():
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    found, num_calls = gradient(Differentiation(), w, 1e-9)
    assert found == pytest.approx([1e-9, -2e-9], rel=2**-10)  # 65536 of them are 7e-5, a normal number of 11 bits
    assert num_calls == 1
    assert gradient(Differentiation(), w, 1e-9, is_scaled=False)[0] == [0.0, 0.0]  # as backward() has it


def test_a_factor_that_overflows_falls_until_it_does_not_and_is_kept():
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    differentiation = Differentiation()
    found, num_calls = gradient(differentiation, w, 10.0)  # 65504 is the largest number: 2 * 10 * 16^2 is below
    assert found == [10.0, -20.0]
    assert num_calls == 3
    assert differentiation.scale.factor == FIRST / CUT**2
    assert gradient(differentiation, w, 10.0)[1] == 1


def test_what_is_infinite_without_a_factor_stays_infinite_and_the_factor_starts_again():
    w = torch.tensor([1.0], requires_grad=True)
    differentiation = Differentiation()
    found, num_calls = gradient(differentiation, w, 1e9)
    assert found == [math.inf]
    assert num_calls == 1 + round(math.log(FIRST, CUT))
    assert differentiation.scale.factor == FIRST


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_other_precisions_are_left_alone(dtype):
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    loss = (1e-9 * w.to(dtype)).float().sum()
    assert not flows_in_float16(loss)
    seen = []
    w.register_hook(lambda grad: seen.append(grad.clone()))
    (found,) = Differentiation().gradient(loss, [w])
    assert torch.equal(found, seen[0])  # nothing was multiplied


def test_a_product_with_the_hessian_of_a_small_loss_is_that_of_the_loss_in_its_usual_size():
    torch.manual_seed(0)
    w, v = (1.0 + 0.1 * torch.randn(64)).requires_grad_(), torch.randn(64)

    def product(size: float) -> torch.Tensor:
        def loss_fn() -> torch.Tensor:
            return size * (w.half().float().square().square() / 4).mean()

        return FiniteDifferenceOperator(loss_fn, [w], precision=torch.float16).matvec(v) / size

    # Without a factor the gradients w^3 / 64 / 2^20 are below the smallest number; with one they are normal numbers.
    torch.testing.assert_close(product(2.0**-20), product(1.0), rtol=1e-5, atol=0.0)
