"""docs/theory/non-smoothness.md, theorems 3 to 6: descent and convergence where the gradient jumps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcao import DCAO
from dcao.policies import Ceiling, LearningRate, Policy
from dcao.probing.settings import ProbeSettings
from helpers.theorems import TOO_GOOD
from helpers.theory_runs import Course, course

STEP_LONG = ProbeSettings("batch", step_length="step")
POLICIES: list[Policy] = [Ceiling(max_lr=1.0), LearningRate(1.0)]
over_policies = pytest.mark.parametrize("policy", POLICIES, ids=["default", "proposal"])

# --- smooth up to jumps


@given(jump=st.floats(0.1, 5.0), curvature=st.floats(0.0, 5.0), lr=st.floats(1e-3, 2.0))
def test_a_step_across_a_kink_at_once_attains_the_inequality(jump, curvature, lr):
    def loss(x: float) -> float:
        return jump / 2.0 * abs(x) + curvature * x * x / 2.0

    gradient = jump / 2.0  # at 0, from the right
    rise = loss(-lr * gradient) - loss(0.0)

    def claimed(jump: float, curvature: float) -> float:
        return -lr * gradient**2 * (1.0 - curvature * lr / 2.0) + jump * lr * gradient

    size = lr * gradient**2 * (1.0 + curvature * lr)
    assert rise == pytest.approx(claimed(jump, curvature), abs=1e-13 * size)
    assert rise > claimed(jump / TOO_GOOD, curvature) + 1e-3 * size / (1.0 + curvature * lr)


SPACING = 0.5
JUMP = 0.2


def comb(w: Tensor) -> Tensor:
    """On each weight a parabola around 20, whose slope jumps by ``JUMP`` up and down in turn, ``SPACING`` apart."""
    x = w - 20.0
    wave = (x / SPACING).remainder(2.0)  # the jumps are at whole numbers: up at 0, down at 1
    tooth = torch.where(wave < 1.0, wave, 2.0 - wave) * SPACING * JUMP / 2.0
    return (0.5 * x * x + tooth).sum()


def smallest_gradient_allowed(run: Course, smoothness: float, jump: float) -> float:
    """Theorem 3: ``sum lr |g| (theta |g| - J) <= f_0 - f_K``, solved for the smallest |g|."""
    theta = 1.0 - smoothness * float(run.lrs.max()) / 2.0
    fall = float(run.losses[0] - run.losses[-1])
    return (jump + math.sqrt(jump**2 + 4.0 * theta * fall / float(run.lrs.sum()))) / (2.0 * theta)


@over_policies
def test_dcao_gets_to_where_the_gradient_is_no_longer_than_a_jump(policy):
    run = course(comb, torch.full((1,), 23.3), steps=300, policy=policy, measure=STEP_LONG, every=5)
    assert run.lrs.max() <= 1.0
    allowed = smallest_gradient_allowed(run, 1.0, JUMP)
    assert allowed < 7.0 * JUMP  # and the first gradient is 17 jumps long
    assert math.sqrt(float(run.squares.min())) <= allowed
    rises = run.losses.diff()
    lengths = run.squares.sqrt()
    claimed = -run.lrs * run.squares * (1.0 - run.lrs / 2.0) + JUMP * run.lrs * lengths
    assert (rises <= claimed + 1e-12).all()


@settings(max_examples=200)
@given(
    jumps=st.lists(st.floats(-0.3, 0.3), min_size=12, max_size=12),
    points=st.lists(st.floats(0.0, 11.99), min_size=2, max_size=2),
    curvature=st.floats(-1.0, 1.0),
)
def test_kinks_at_least_h_apart_are_a_curvature_of_jump_over_h_and_one_jump(jumps, points, curvature):
    spacing = 1.0  # one kink at each whole number

    def gradient(x: float) -> float:
        return curvature * x + sum(jump for place, jump in enumerate(jumps) if place < x)

    x, y = points
    largest = max(map(abs, jumps))
    limit = (abs(curvature) + largest / spacing) * abs(x - y) + largest
    assert abs(gradient(x) - gradient(y)) <= limit + 1e-12


def test_that_curvature_is_attained():
    jumps, spacing, intervals = 0.3, 1.0, 100
    across = intervals * spacing + 1e-9  # from just left of one kink to just right of the last
    change = (intervals + 1) * jumps
    assert change == pytest.approx(jumps / spacing * across + jumps, rel=1e-9)
    assert change > jumps / TOO_GOOD / spacing * across + jumps


# --- convex, with s measured over the step itself


def pinned(lr: float) -> Ceiling:
    return Ceiling(min_lr=lr, max_lr=lr, first_relative_step=None)


def test_on_a_convex_loss_an_s_over_the_length_of_the_step_promises_its_fall():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    offsets = torch.randn(40, generator=generator, dtype=torch.float64)
    run = course(
        lambda w: torch.relu(rows @ w - offsets).mean() + 0.05 * (w * w).sum(),
        3.0 * torch.ones(6),
        steps=60,
        policy=pinned(1.0),
        measure=STEP_LONG,
        every=1,
        lr=1.0,
    )
    s = run.lrs * run.curvatures
    assert (-run.losses.diff() >= run.lrs * run.squares * (1.0 - s) - 1e-12).all()
    assert s[:30].max() > 0.2


def test_across_the_kink_of_the_absolute_value_it_falls_by_no_more():
    run = course(
        lambda w: 3.0 * w.abs().sum(), torch.full((1,), 1e-9), steps=1, policy=pinned(0.1), measure=STEP_LONG, lr=0.1
    )
    s, slope = float(run.lrs[0] * run.curvatures[0]), float(run.lrs[0] * run.squares[0])
    assert s == pytest.approx(2.0, rel=1e-6)
    assert -float(run.losses.diff()) == pytest.approx(slope * (1.0 - s), rel=1e-6)
    assert -float(run.losses.diff()) < slope * (1.0 - s / TOO_GOOD)


# --- weakly convex


def envelope(w: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    """Moreau envelope of ``|x^2 - 1|`` on each weight with this ``rho_bar`` above 2, and its gradient."""
    candidates = [torch.ones_like(w), -torch.ones_like(w)]
    outside, inside = sharpness * w / (sharpness + 2.0), sharpness * w / (sharpness - 2.0)
    candidates += [torch.where(outside.abs() > 1.0, outside, 1.0), torch.where(inside.abs() < 1.0, inside, 1.0)]
    values = torch.stack([(y * y - 1.0).abs() + sharpness / 2.0 * (y - w) ** 2 for y in candidates])
    value, index = values.min(dim=0)
    nearest = torch.stack(candidates).gather(0, index[None])[0]
    return value, sharpness * (w - nearest)


RHO, RHO_BAR = 2.0, 4.0


def folded(w: Tensor) -> Tensor:
    """|x^2 - 1| on each weight: 2-weakly convex, with kinks at -1 and 1."""
    return (w * w - 1.0).abs().sum()


@settings(max_examples=300)
@given(point=st.floats(-3.0, 3.0), lr=st.floats(1e-4, 1.0), noise=st.floats(-3.0, 3.0))
def test_no_step_breaks_the_inequality_of_the_envelope(point, lr, noise):
    w = torch.tensor([point], dtype=torch.float64)
    gradient = 2.0 * w * (w * w - 1.0).sign()
    before, slope = envelope(w, RHO_BAR)
    after = sum(0.5 * envelope(w - lr * (gradient + sign * noise), RHO_BAR)[0] for sign in (-1.0, 1.0))
    square = gradient**2 + noise**2
    claimed = before - lr * (RHO_BAR - RHO) / RHO_BAR * slope**2 + lr**2 * RHO_BAR / 2.0 * square
    assert float(after) <= float(claimed) + 1e-12


@given(size=st.floats(0.1, 10.0), sharpness=st.floats(0.1, 10.0), part=st.floats(0.01, 1.9))
def test_a_step_on_the_absolute_value_attains_it(size, sharpness, part):
    # f = size * |x|, rho = 0: the envelope is sharpness x^2 / 2 up to |x| = size / sharpness.
    w, lr = size / sharpness, part / sharpness
    after = sharpness / 2.0 * (w - lr * size) ** 2
    change = after - sharpness / 2.0 * w**2

    def claimed(gain: float) -> float:
        return -gain * lr * (sharpness * w) ** 2 + lr**2 * sharpness / 2.0 * size**2

    assert change == pytest.approx(claimed(1.0), abs=1e-12 * (1.0 + size**2 * lr))
    assert change > claimed(TOO_GOOD) + 1e-9 * lr * size**2


@over_policies
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_dcao_keeps_the_bound_of_the_envelope(policy, sigma):
    size, steps = 1000, 150
    generator = torch.Generator().manual_seed(0)
    run = course(
        folded,
        torch.linspace(-3.0, 3.0, size),
        steps=steps,
        policy=policy,
        every=5,
        noise=lambda: sigma * torch.randn(size, generator=generator, dtype=torch.float64),
    )
    slopes = torch.stack([envelope(each, RHO_BAR)[1].square().sum() for each in run.points[:-1]])
    first, last = (envelope(run.points[at], RHO_BAR)[0].sum() for at in (0, -1))
    left = (run.lrs * slopes).sum() * (RHO_BAR - RHO) / RHO_BAR
    squares = run.squares + sigma**2 * size
    right = first - last + RHO_BAR / 2.0 * (run.lrs.square() * squares).sum()
    assert float(left) <= float(right) * (1.0 + 4.0 / math.sqrt(size))


def test_where_the_squares_of_lr_have_a_sum_dcao_ends_at_a_clarke_critical_point():
    # The borrowed theorem: steps a_k m_k, a_k = 1 / (1 + k / 20), m_k between bounds and not made from batch k.
    size, generator = 200, torch.Generator().manual_seed(1)
    w = torch.linspace(-2.0, 2.0, size, dtype=torch.float64).requires_grad_()
    optimizer = DCAO(
        torch.optim.SGD([w], lr=0.05),
        policy=LearningRate(1.0, min_lr=0.02, max_lr=0.1),
        every=10,
        guard=False,
        probe_batch=lambda: folded(w),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1.0 + step / 20.0))
    far = {}
    for step in range(1500):
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        optimizer.minimize(lambda noise=noise: folded(w) + noise @ w)
        schedule.step()
        if step in (50, 1499):
            far[step] = float((w.detach().abs() - 1.0).abs().mean())
    # At a kink of slopes -2 and 2 a step of lr throws a weight by up to about 2 lr; lr is at most 0.1 / 76 at the end.
    assert far[1499] < 2.0 * 0.1 / 76.0 * 2.0
    assert far[1499] < far[50] / 10.0
