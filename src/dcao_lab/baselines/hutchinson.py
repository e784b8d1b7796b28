"""Hutchinson estimates of the Hessian's diagonal, for the optimizers of ``pytorch_optimizer`` that need them."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from dcao.operators import LossFn
from dcao_lab.baselines.curvature import HESSIAN_PRODUCT_COST, differentiable_gradient, hessian_product

DrawVector = Callable[[Tensor, torch.Generator], Tensor]
Average = Callable[[Tensor], Tensor]


def rademacher(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs with the shape of ``like``; +1 and -1 are equally likely."""
    return torch.randint(0, 2, like.shape, generator=generator).to(like) * 2.0 - 1.0


def gaussian(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers with the shape of ``like``."""
    return torch.randn(like.shape, generator=generator).to(like)


def over_kernels(estimate: Tensor) -> Tensor:
    """AdaHessian's spatial averaging: the mean absolute value of each convolution kernel; other shapes do not change.

    Example:
        >>> over_kernels(torch.tensor([[[[1.0, -3.0]]]]))
        tensor([[[[2., 2.]]]])
    """
    return estimate.abs().mean(dim=(2, 3), keepdim=True).expand_as(estimate) if estimate.ndim == 4 else estimate


def as_it_is(estimate: Tensor) -> Tensor:
    """The estimate without any averaging."""
    return estimate


class TakesHessian(Protocol):
    """An optimizer of ``pytorch_optimizer`` whose step takes an estimate of the Hessian's diagonal."""

    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, Any]
    defaults: dict[str, Any]

    def step(self, *, hessian: list[Tensor] | None = None) -> object:
        """One step; without an estimate it keeps the one that it has."""


class HutchinsonOptimizer(torch.optim.Optimizer):
    """Gives an optimizer ``z * H z`` every few steps, as an estimate of the Hessian's diagonal.

    ``pytorch_optimizer`` would compute it after ``backward(create_graph=True)``, which leaks memory and makes torch
    warn, so we pass it to ``step(hessian=...)``.

    Args:
        inner: The optimizer, built with ``update_period=every``.
        draw: Draws random vectors z with unit covariance.
        every: Steps from one estimate to the next; the first is made at the first step.
        seed: Seed of the random vectors.
        average: Applied to the estimate of each parameter.

    Attributes:
        probe_cost: Gradient evaluations spent beyond one a step.
    """

    def __init__(
        self, inner: TakesHessian, *, draw: DrawVector, every: int, seed: int, average: Average = as_it_is
    ) -> None:
        super().__init__(inner.param_groups, inner.defaults)
        self.inner = inner
        self.param_groups, self.state = inner.param_groups, inner.state
        self.draw, self.every, self.average = draw, every, average
        self.generator = torch.Generator().manual_seed(seed)
        self.num_steps = 0
        self.probe_cost = 0.0

    def minimize(self, loss_fn: LossFn) -> Tensor:
        """Make one training step, and return the loss before it."""
        is_due = self.num_steps % self.every == 0
        self.num_steps += 1
        if is_due:
            return self._minimize_with_estimate(loss_fn)
        self.zero_grad()
        loss = loss_fn()
        torch.autograd.backward(loss)
        self.inner.step()
        return loss.detach()

    def _minimize_with_estimate(self, loss_fn: LossFn) -> Tensor:
        params = [param for group in self.param_groups for param in group["params"]]
        loss, gradient = differentiable_gradient(loss_fn, params)
        vectors = [self.draw(param, self.generator) for param in params]
        products = hessian_product(loss_fn, params, gradient, vectors)
        self.probe_cost += HESSIAN_PRODUCT_COST
        for param, g in zip(params, gradient, strict=True):
            param.grad = g.detach()
        self.inner.step(hessian=[self.average(z * product) for z, product in zip(vectors, products, strict=True)])
        return loss
