"""The worst case of a few steps over all losses of a class: by semidefinite programming, and as a loss to train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor


def _problem() -> tuple[Any, Any]:
    """A problem over the losses with a gradient of Lipschitz constant 1."""
    pytest.importorskip("PEPit", reason="dcao[theory] is not installed")
    from PEPit import PEP
    from PEPit.functions import SmoothFunction

    problem = PEP()
    return problem, problem.declare_function(SmoothFunction, L=1.0)


def largest_final_gradient(lrs: Sequence[float]) -> float:
    """Largest ``min |g|^2`` over the points of gradient descent, where the loss falls by 1 in all (L = 1)."""
    problem, loss = _problem()
    point = problem.set_initial_point()
    gradient, first = loss.oracle(point)
    gradients, last = [gradient], first
    for lr in lrs:
        point = point - lr * gradient
        gradient, last = loss.oracle(point)
        gradients.append(gradient)
    problem.set_initial_condition(first - last <= 1)
    for each in gradients:
        problem.set_performance_metric(each**2)
    return float(problem.solve(verbose=0))


def largest_rise_of_one_step(lr: float) -> float:
    """Largest change of the loss in one step of gradient descent from a gradient of length 1 (L = 1)."""
    problem, loss = _problem()
    point = problem.set_initial_point()
    gradient, before = loss.oracle(point)
    _, after = loss.oracle(point - lr * gradient)
    problem.set_initial_condition(gradient**2 == 1)
    problem.set_performance_metric(after - before)
    return float(problem.solve(verbose=0))


def largest_rise_of_potential(lr: float, lr_before: float, momentum: float) -> float:
    """Largest change of ``f + momentum / (2 lr) |step|^2`` where heavy ball takes a step of length 1 (L = 1)."""
    problem, loss = _problem()
    point = problem.set_initial_point()
    step_before = problem.set_initial_point()
    gradient, before = loss.oracle(point)
    step = momentum * lr / lr_before * step_before - lr * gradient
    _, after = loss.oracle(point + step)
    problem.set_initial_condition(step**2 == 1)
    rise = momentum / 2.0 * (step**2 / lr - step_before**2 / lr_before)
    problem.set_performance_metric(after - before + rise)
    return float(problem.solve(verbose=0))


def largest_distance_left(lrs: Sequence[float], mu: float) -> float:
    """Largest ``f - f*`` after these steps of gradient descent from 1, over losses with L = 1 and PL with ``mu``."""
    pytest.importorskip("PEPit", reason="dcao[theory] is not installed")
    from PEPit import PEP
    from PEPit.functions import SmoothQuadraticLojasiewiczFunctionCheap

    problem = PEP()
    loss = problem.declare_function(SmoothQuadraticLojasiewiczFunctionCheap, L=1.0, mu=mu)
    least = loss(loss.stationary_point())
    point = problem.set_initial_point()
    problem.set_initial_condition(loss(point) - least <= 1)
    for lr in lrs:
        point = point - lr * loss.gradient(point)
    problem.set_performance_metric(loss(point) - least)
    return float(problem.solve(verbose=0))


def staircase(lr: float, smoothness: float) -> Callable[[Tensor], Tensor]:
    """A loss of one weight on which each step of gradient descent with this lr ends at a gradient of 1 again.

    From 0 on down it has, over each length ``lr``, the curvature ``smoothness`` and then its negative.
    """

    def loss(w: Tensor) -> Tensor:
        steps = (-w / lr + 1e-9).floor().detach()  # a step that ends at a corner has arrived there
        inside = -w - steps * lr  # way into the present step
        first = torch.minimum(inside, torch.full_like(w, lr / 2.0))
        second = (inside - lr / 2.0).clamp(min=0.0)
        middle = 1.0 - smoothness * lr / 2.0
        fall = first - smoothness * first**2 / 2.0 + middle * second + smoothness * second**2 / 2.0
        return (-steps * (lr - smoothness * lr**2 / 4.0) - fall).sum()

    return loss
