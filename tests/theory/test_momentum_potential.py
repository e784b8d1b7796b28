"""docs/theory/convergence.md, theorem 3: momentum, while lr falls at will and rises by a bounded factor a step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcao.policies import Ceiling, LearningRate, Policy
from helpers.theorems import TOO_GOOD
from helpers.theory_runs import Course, course
from helpers.worst_cases import largest_rise_of_potential


def margin(lr: float, lr_before: float, momentum: float, smoothness: float = 1.0) -> float:
    """nu_k of the page: positive where the potential has to fall."""
    return 2.0 - momentum - momentum * lr / lr_before - smoothness * lr


SETTINGS = [(0.1, 0.1, 0.9), (0.1, 0.1 / 1.1, 0.9), (0.5, 1.0, 0.6), (0.3, 0.2, 0.5), (1.5, 1.0, 0.9)]


@pytest.mark.parametrize(("lr", "lr_before", "momentum"), SETTINGS)
def test_the_potential_falls_by_what_the_page_says_and_in_the_worst_case_by_no_more(lr, lr_before, momentum):
    worst, claimed = largest_rise_of_potential(lr, lr_before, momentum), -margin(lr, lr_before, momentum) / (2.0 * lr)
    assert worst == pytest.approx(claimed, abs=1e-3)
    # A limit on lr * L that is 5 % too generous.
    too_good = -margin(lr / TOO_GOOD, lr_before / TOO_GOOD, momentum) / (2.0 * lr)
    assert worst > too_good + 1e-3


def potentials(run: Course, momentum: float) -> torch.Tensor:
    steps = run.points.diff(dim=0).square().sum(dim=1)
    return run.losses + torch.cat([torch.zeros(1, dtype=torch.float64), momentum * steps / (2.0 * run.lrs)])


POLICIES: list[Policy] = [Ceiling(max_lr=0.1 / 2.0), LearningRate(1.5, max_lr=0.1 / 2.0)]


@pytest.mark.parametrize("policy", POLICIES, ids=["default", "proposal"])
def test_under_dcao_the_potential_falls_at_every_step_though_lr_rises_by_10_percent_each(policy):
    momentum, smoothness = 0.9, 2.0
    amplitudes = torch.linspace(0.2, smoothness, 12, dtype=torch.float64)
    start = torch.linspace(0.5, 6.0, 12, dtype=torch.float64)
    run = course(
        lambda w: (amplitudes * (1.0 - w.cos())).sum(), start, steps=200, policy=policy, every=1, momentum=momentum
    )
    growths = run.lrs[1:] / run.lrs[:-1]
    assert growths.max() <= 1.1 + 1e-12
    assert growths.max() > 1.09
    assert run.lrs.max() <= (2.0 - 2.1 * momentum) / smoothness
    assert (potentials(run, momentum).diff() <= 1e-12).all()
    nu = 2.0 - 2.1 * momentum - smoothness * 0.05
    assert nu > 0.0
    claimed = 2.0 * (1.0 + momentum) ** 2 * (run.losses[0] - run.losses.min()) / (nu * run.lrs.min() * 200)
    assert run.squares.min() <= claimed


@settings(max_examples=200)
@given(
    momentum=st.floats(0.0, 0.99),
    curvatures=st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=4),
    lrs=st.lists(st.floats(1e-2, 3.0), min_size=2, max_size=12),
)
def test_no_quadratic_and_no_lr_break_the_inequality_in_torchs_own_heavy_ball(momentum, curvatures, lrs):
    h = torch.tensor(curvatures, dtype=torch.float64)
    weights = torch.ones(len(h), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=1.0, momentum=momentum)
    before, lr_before = weights.detach().clone(), lrs[0]
    potential = 0.5 * (h * weights.detach() ** 2).sum()
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        weights.grad = h * weights.detach()
        optimizer.step()
        square = (weights.detach() - before).square().sum()
        now = 0.5 * (h * weights.detach() ** 2).sum() + momentum / (2.0 * lr) * square
        size = potential.abs() + now.abs() + square / lr
        assert now <= potential - margin(lr, lr_before, momentum) / (2.0 * lr) * square + 1e-12 * size
        before, lr_before, potential = weights.detach().clone(), lr, now


def test_momentum_of_0_99_admits_no_rise_of_10_percent():
    assert margin(1e-9, 1e-9 / 1.1, 0.99) < 0.0 < margin(1e-9, 1e-9 / 1.01, 0.99)
    assert margin(1e-9, 1e-9 / 1.1, 0.95) > 0.0
