"""docs/theory/convergence.md, theorem 8: momentum and gradient noise together, while lr moves."""

from __future__ import annotations

import pytest
import torch

from dcao.policies import Ceiling, LearningRate, Policy
from helpers.theorems import TOO_GOOD
from helpers.theory_runs import Course, course

SIZE, STEPS, MOMENTUM, SIGMA = 2000, 300, 0.9, 0.5
POLICIES: list[Policy] = [Ceiling(max_lr=0.1), LearningRate(1.5, max_lr=0.1)]
over_policies = pytest.mark.parametrize("policy", POLICIES, ids=["default", "proposal"])


def noisy_run(policy: Policy) -> tuple[Course, torch.Tensor]:
    """A run on waves (L = 1), and the gradients that trained; the noise is -SIGMA or SIGMA, and so bounded."""
    generator, drawn = torch.Generator().manual_seed(0), []

    def noise() -> torch.Tensor:
        drawn.append(SIGMA * (2.0 * torch.randint(2, (SIZE,), generator=generator) - 1.0).double())
        return drawn[-1]

    run = course(
        lambda w: (1.0 - w.cos()).sum(),
        torch.linspace(0.3, 3.0, SIZE),
        steps=STEPS,
        policy=policy,
        every=5,
        momentum=MOMENTUM,
        noise=noise,
    )
    return run, run.gradients + torch.stack(drawn)


@over_policies
def test_the_shadow_of_the_weights_moves_by_the_gradient_and_the_change_of_lr(policy):
    run, trained = noisy_run(policy)
    etas = run.lrs / (1.0 - MOMENTUM)
    buffers = -run.points.diff(dim=0) / run.lrs[:, None]
    shadows = run.points[1:] - MOMENTUM * etas[:, None] * buffers  # of w_1, w_2, ...
    plain = -etas[1:, None] * trained[1:]
    of_lr = MOMENTUM * (etas[:-1] - etas[1:])[:, None] * buffers[:-1]
    torch.testing.assert_close(shadows.diff(dim=0), plain + of_lr, rtol=0.0, atol=1e-11)
    missed = (shadows.diff(dim=0) - plain - of_lr * TOO_GOOD).abs().amax(dim=1)
    assert missed[:20].min() > 1e-5  # while lr rises


@over_policies
def test_dcao_keeps_the_bound(policy):
    run, trained = noisy_run(policy)
    largest = float(
        max(trained.norm(dim=1).max(), run.squares.max().sqrt(), SIZE**0.5)
    )  # |grad f| is sqrt(SIZE) at most
    etas = run.lrs / (1.0 - MOMENTUM)
    before = torch.cat([etas[:1], etas[:-1]])
    change = (etas - before).abs()
    left = float((etas * run.squares).sum()) / 2.0
    right = float(run.losses[0]) + largest**2 * (
        MOMENTUM / (1.0 - MOMENTUM) * float(change.sum())
        + float(etas.square().sum())
        + (MOMENTUM / (1.0 - MOMENTUM)) ** 2 * float(change.square().sum() + (etas * before.square()).sum() / 2.0)
    )
    assert left <= right


def test_the_floor_is_in_proportion_to_lr():
    floors = []
    for lr in (0.004, 0.001):
        policy = Ceiling(min_lr=lr, max_lr=lr, first_relative_step=None)
        generator = torch.Generator().manual_seed(0)
        run = course(
            lambda w: (1.0 - w.cos()).sum(),
            torch.zeros(500) + 0.01,
            steps=800,
            policy=policy,
            lr=lr,
            momentum=MOMENTUM,
            noise=lambda generator=generator: SIGMA * torch.randn(500, generator=generator, dtype=torch.float64),
        )
        floors.append(float(run.squares[400:].mean()))
    # 500 weights over 4 and 16 times the 100 and 25 steps that a run remembers: 3 % each.
    assert floors[0] / floors[1] == pytest.approx(4.0, rel=0.15)
