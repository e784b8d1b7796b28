"""docs/theory/convergence.md, theorems 4 and 6: gradient noise, without and with the PL condition, and the decay."""

from __future__ import annotations

import math

import pytest
import torch

from dcao.policies import Ceiling, LearningRate, Policy
from dcao.probing.settings import ProbeSettings
from helpers.theorems import TOO_GOOD
from helpers.theory_runs import Course, course
from helpers.worst_cases import largest_distance_left

SIZE = 20_000  # weights that all have the same loss and independent noise: as many runs, with one lr
SIGMA = 0.5  # of each


def normal(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: SIGMA * torch.randn(SIZE, generator=generator, dtype=torch.float64)


def bowl(weights: torch.Tensor) -> torch.Tensor:
    """A quadratic of curvature 1 around 10: L = 1, and mu of PL = 1."""
    return 0.5 * (weights - 10.0).square().sum()


def both_sides(run: Course, smoothness: float, variance: float) -> tuple[float, float]:
    """What theorem 4 compares."""
    left = (run.lrs * (1.0 - smoothness * run.lrs / 2.0) * run.squares).sum()
    right = run.losses[0] - run.losses[-1] + smoothness * variance / 2.0 * run.lrs.square().sum()
    return float(left), float(right)


POLICIES: list[Policy] = [Ceiling(max_lr=1.0), LearningRate(0.7, max_lr=1.0)]
over_policies = pytest.mark.parametrize("policy", POLICIES, ids=["default", "proposal"])


@over_policies
def test_where_all_curvatures_are_l_theorem_4_is_an_equality(policy):
    run = course(bowl, torch.full((SIZE,), 13.0), steps=150, policy=policy, every=5, lr=0.1, noise=normal())
    assert run.lrs.max() > 5.0 * run.lrs.min()
    left, right = both_sides(run, 1.0, SIZE * SIGMA**2)
    # The noise's cross terms average out over SIZE weights to a relative 1 / sqrt(SIZE) = 0.7 % at each step.
    assert left == pytest.approx(right, rel=0.01)
    noise = 0.5 * SIZE * SIGMA**2 * float(run.lrs.square().sum())
    assert noise > 0.3 * right
    assert left > right - noise * (1.0 - 1.0 / TOO_GOOD**2)  # sigma 5 % too small


@over_policies
def test_with_curvatures_of_both_signs_it_holds(policy):
    amplitudes = torch.linspace(0.0, 1.0, SIZE, dtype=torch.float64)
    start = torch.linspace(0.3, 3.0, SIZE)
    run = course(
        lambda w: (amplitudes * (1.0 - w.cos())).sum(), start, steps=100, policy=policy, every=5, noise=normal()
    )
    left, right = both_sides(run, 1.0, SIZE * SIGMA**2)
    assert left <= right * 1.01


# --- under the PL condition


def pl_bound(run: Course, smoothness: float, mu: float, variance: float) -> torch.Tensor:
    """Theorem 6 at every step, for a loss whose smallest value is 0."""
    bounds = [float(run.losses[0])]
    for lr in run.lrs.tolist():
        kept = 1.0 - 2.0 * mu * lr * (1.0 - smoothness * lr / 2.0)
        bounds.append(kept * bounds[-1] + smoothness * variance * lr**2 / 2.0)
    return torch.tensor(bounds, dtype=torch.float64)


@over_policies
def test_where_all_curvatures_are_l_and_mu_theorem_6_is_an_equality(policy):
    run = course(bowl, torch.full((SIZE,), 13.0), steps=150, policy=policy, every=5, lr=0.1, noise=normal())
    claimed = pl_bound(run, 1.0, 1.0, SIZE * SIGMA**2)
    torch.testing.assert_close(run.losses, claimed, rtol=0.03, atol=0.0)  # sqrt(2 / SIZE) = 1 %, three times
    too_good = pl_bound(run, 1.0, 1.0, SIZE * (SIGMA / TOO_GOOD) ** 2)
    assert (run.losses[-50:] > too_good[-50:]).all()


@over_policies
def test_on_a_loss_that_is_pl_and_not_convex_it_holds(policy):
    # x^2 + 3 sin^2 x has L = 8 and, on the interval of the run, mu = 1 / 32.
    grid = torch.linspace(-8.0, 8.0, 200_000, dtype=torch.float64)
    loss = grid.square() + 3.0 * grid.sin().square()
    slope = 2.0 * grid + 3.0 * (2.0 * grid).sin()
    assert (slope.square() / (2.0 * loss)).min() >= 1.0 / 32.0
    start = torch.linspace(-3.0, 3.0, SIZE)
    run = course(
        lambda w: (w.square() + 3.0 * w.sin().square()).sum(),
        start,
        steps=100,
        policy=policy,
        every=5,
        lr=0.01,
        noise=normal(),
    )
    if run.lrs.max() > 0.25:  # 2 / L
        run = Course(**{**vars(run), "lrs": run.lrs.clamp(max=0.25)})
    assert run.points.abs().max() < 8.0
    assert (run.losses <= 1.01 * pl_bound(run, 8.0, 1.0 / 32.0, SIZE * SIGMA**2)).all()


def test_at_a_constant_lr_the_ball_is_as_large_as_the_page_says():
    lr = 0.4
    policy = Ceiling(min_lr=lr, max_lr=lr, first_relative_step=None)
    run = course(bowl, torch.full((SIZE,), 10.0), steps=60, policy=policy, lr=lr, noise=normal())
    ball = SIZE * SIGMA**2 * lr / (2.0 * (2.0 - lr))  # L sigma^2 lr / (2 mu (2 - L lr))
    settled = float(run.losses[20:].mean())
    assert settled == pytest.approx(ball, rel=0.01)  # 40 steps of 1 %, correlated over 3
    assert settled > ball / TOO_GOOD


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_the_decay_of_the_default_leaves_of_the_ball_what_the_page_says(share):
    lr, total = 0.5, 2000
    policy = Ceiling(total_steps=total, decay=share, growth=1.0, first_relative_step=None, max_relative_step=math.inf)
    generator = torch.Generator().manual_seed(1)
    size = 4000
    run = course(
        bowl,
        torch.full((size,), 10.05),
        steps=total,
        policy=policy,
        lr=lr,
        noise=lambda: SIGMA * torch.randn(size, generator=generator, dtype=torch.float64),
    )
    assert run.lrs[0] == lr
    assert run.lrs[-1] == pytest.approx(lr / (share * total), rel=1e-9)
    exact = float(pl_bound(run, 1.0, 1.0, size * SIGMA**2)[-1])
    assert float(run.losses[-1]) == pytest.approx(exact, rel=4.0 * math.sqrt(2.0 / size))
    slope = lr / (share * total)  # by which lr falls a step
    claimed = math.sqrt(math.pi) / 8.0 * size * SIGMA**2 * math.sqrt(slope)
    # The sum of the proof against its integral: relative 2 sqrt(slope / pi), 2 % and 1 %.
    excess = 2.0 * math.sqrt(slope / math.pi)
    assert claimed <= exact <= claimed * (1.0 + 1.5 * excess)
    assert exact > claimed * (1.0 + 1.5 * excess) / TOO_GOOD


def test_probes_of_the_noise_free_loss_measure_its_curvature():
    # Else the runs above would not be what theorem 4 is about: an lr that the noise of the step has no part in.
    settings = ProbeSettings("batch")
    run = course(bowl, torch.full((SIZE,), 3.0), steps=3, measure=settings, every=1, noise=normal())
    torch.testing.assert_close(run.curvatures, torch.ones(3, dtype=torch.float64), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("lrs", [[1.0], [0.5, 1.0], [0.3, 1.0, 1.7]], ids=str)
def test_no_loss_of_the_class_is_slower_than_theorem_6_without_noise(lrs):
    # L = 1, mu = 0.2. PEPit's conditions for the class are necessary, so that its worst case is an upper bound.
    mu = 0.2
    claimed = math.prod(1.0 - 2.0 * mu * lr * (1.0 - lr / 2.0) for lr in lrs)
    assert largest_distance_left(lrs, mu) <= claimed * (1.0 + 1e-4)


def test_with_mu_equal_to_l_the_worst_loss_is_as_slow_as_theorem_6_says():
    worst = largest_distance_left([0.4, 0.7], 0.999)
    claimed = math.prod(1.0 - 2.0 * lr * (1.0 - lr / 2.0) for lr in (0.4, 0.7))
    assert worst == pytest.approx(claimed, rel=0.02)
    assert worst > claimed / TOO_GOOD
