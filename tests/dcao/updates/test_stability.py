"""Thresholds against the real optimizers on quadratics; the load against exact second-moment operators."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, optim

from dcao import DCAO
from dcao.updates.registry import StepDynamics
from dcao.updates.stability import load_number, stability_number, stability_threshold
from helpers.frozen_optimizer import TINY, FrozenOptimizer, seeded
from helpers.optimizer_cases import OPTIMIZER_CASES, OptimizerCase

SIZE = 6


def over_optimizers(function):
    return pytest.mark.parametrize("case", OPTIMIZER_CASES, ids=lambda case: case.name)(function)


# --- thresholds

HEAVY_DECAY = [  # where decay takes a large part of the threshold, so that leaving it out would show
    OptimizerCase("sgd-heavy-l2", partial(optim.SGD, weight_decay=10.0), 0.05),
    OptimizerCase("sgd-momentum-heavy-l2", partial(optim.SGD, momentum=0.9, weight_decay=30.0), 0.05),
    OptimizerCase("nesterov-heavy-l2", partial(optim.SGD, momentum=0.9, nesterov=True, weight_decay=9.0), 0.05),
    OptimizerCase("adamw-heavy-decay", partial(optim.AdamW, weight_decay=0.5), 1.0),
    OptimizerCase("adamw-heavier-decay", partial(optim.AdamW, weight_decay=1.5, betas=(0.5, 0.99)), 1.0),
    OptimizerCase("nadam-heavy-decay", partial(optim.NAdam, weight_decay=0.5, decoupled_weight_decay=True), 1.0),
]


@pytest.mark.parametrize("case", OPTIMIZER_CASES + HEAVY_DECAY, ids=lambda case: case.name)
def test_the_real_optimizer_converges_just_below_its_threshold_and_not_just_above(case):
    frozen = FrozenOptimizer(case, SIZE)
    assert frozen.growth(hessian_at(frozen, 0.99)) < 0.5
    assert frozen.growth(hessian_at(frozen, 1.01)) > 2.0


def hessian_at(frozen: FrozenOptimizer, fraction: float) -> Tensor:
    """A Hessian whose curvature, as `stability_threshold` defines it, is that fraction of the threshold."""
    target = fraction * stability_threshold(frozen.optimizer)
    is_sgd = isinstance(frozen.optimizer, optim.SGD)  # whose threshold is one of H, coupled decay or not
    coupled = 0.0 if is_sgd else frozen.dynamics.l2_decay
    root = frozen.preconditioner.rsqrt()

    def curvature(scale: float) -> float:
        added = scale * HESSIAN + coupled * torch.eye(SIZE, dtype=torch.float64)
        return torch.linalg.eigvalsh(root[:, None] * added * root)[-1].item()

    return bisect(curvature, target, upper=target * frozen.preconditioner.max().item()) * HESSIAN


def bisect(increasing, target: float, upper: float) -> float:
    """Where an increasing function of a positive number meets the target."""
    lower = 0.0
    for _ in range(100):
        middle = (lower + upper) / 2.0
        lower, upper = (middle, upper) if increasing(middle) < target else (lower, middle)
    return upper


def random_hessian() -> Tensor:
    """Largest eigenvalue 1; the smallest are large enough to contract within a short run."""
    basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=seeded(0), dtype=torch.float64))
    return basis @ torch.diag(torch.linspace(0.4, 1.0, SIZE, dtype=torch.float64)) @ basis.T


HESSIAN = random_hessian()

LR = 0.1
PUBLISHED = [  # theory.md section 1: closed forms, per optimizer, without any of our code
    ("sgd", optim.SGD, {}, 2.0),
    ("heavy ball", optim.SGD, {"momentum": 0.9}, 2 * 1.9),
    ("dampened", optim.SGD, {"momentum": 0.9, "dampening": 0.5}, 2 * 1.9 / 0.5),
    ("dampening without momentum", optim.SGD, {"dampening": 0.5}, 2.0),
    ("nesterov", optim.SGD, {"momentum": 0.9, "nesterov": True}, 2 * 1.9 / 2.8),
    ("sgd l2", optim.SGD, {"weight_decay": 0.3}, 2.0 - LR * 0.3),
    ("adam", optim.Adam, {}, 38.0),
    ("adam l2", optim.Adam, {"weight_decay": 0.3}, 38.0),
    ("adamw", optim.AdamW, {"weight_decay": 0.3}, 38.0 - 19.0 * LR * 0.3),
    ("nadam", optim.NAdam, {"momentum_decay": 1e4}, 2 * 1.9 / (0.1 * 2.8)),
    ("rmsprop", optim.RMSprop, {}, 2.0),
    ("rmsprop momentum", optim.RMSprop, {"momentum": 0.9}, 2 * 1.9),
    ("adagrad", optim.Adagrad, {}, 2.0),
]


@pytest.mark.parametrize(("name", "make", "options", "expected"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_threshold_times_lr_is_the_published_number(name, make, options, expected):
    optimizer = make([weight()], lr=LR, **options)
    if isinstance(optimizer, optim.NAdam):
        forget_bias(optimizer)
    assert LR * stability_threshold(optimizer) == pytest.approx(expected, rel=1e-12)


def weight() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(2))


def forget_bias(optimizer) -> None:
    """NAdam's published number is the one of late training."""
    parameter = optimizer.param_groups[0]["params"][0]
    optimizer.state[parameter] = {"step": torch.tensor(1e6), "mu_product": torch.tensor(0.0)}


def test_adagrads_threshold_rises_as_its_lr_decays():
    frozen = FrozenOptimizer(next(case for case in OPTIMIZER_CASES if case.name == "adagrad-lr-decay"), 1)
    assert stability_threshold(frozen.optimizer) == pytest.approx(2 * (1 + 4 * 0.1) / 0.02)  # 4 steps taken


def test_the_threshold_is_that_of_the_chosen_group():
    optimizer = optim.SGD([{"params": [weight()]}, {"params": [weight()], "lr": 0.5}], lr=0.1)
    assert [stability_threshold(optimizer, group=i) for i in (0, 1)] == pytest.approx([20.0, 4.0])


def test_the_threshold_is_the_smallest_of_the_parameters_in_the_group():
    parameters = [weight(), weight()]
    optimizer = optim.Adagrad(parameters, lr=0.1, lr_decay=1.0)
    optimizer.state[parameters[0]]["step"] += 7  # the other one never got a gradient
    assert stability_threshold(optimizer) == pytest.approx(20.0)


def test_lr_zero_is_stable_at_every_curvature():
    assert stability_threshold(optim.SGD([weight()], lr=0.0)) == math.inf


def test_no_curvature_is_stable_when_decay_alone_makes_the_weights_grow():
    assert stability_threshold(optim.AdamW([weight()], lr=0.1, weight_decay=21.0)) == 0.0
    assert stability_threshold(optim.SGD([weight()], lr=0.1, weight_decay=21.0)) == pytest.approx(-1.0)


@pytest.mark.parametrize("group", [-1, 1])
def test_a_group_that_does_not_exist_is_refused(group):
    with pytest.raises(ValueError, match=rf"group must be in \[0, 1\), got {group}"):
        stability_threshold(optim.SGD([weight()], lr=0.1), group=group)


def test_momentum_at_which_nothing_is_stable_is_refused():
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1.0; .* lower it"):
        stability_threshold(optim.SGD([weight()], lr=0.1, momentum=1.0))


def test_dampening_that_turns_descent_into_ascent_is_refused():
    with pytest.raises(ValueError, match=r"step_size must be finite and not negative, got -.*check lr and damp"):
        stability_threshold(optim.SGD([weight()], lr=0.1, momentum=0.9, dampening=1.5))


# --- the stability number


def test_the_edge_of_stability_is_at_two():
    assert stability_number(380.0, threshold=380.0) == 2.0


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_without_a_stable_curvature_the_stability_number_is_infinite(threshold):
    assert stability_number(1.0, threshold) == math.inf


def test_an_unmeasured_curvature_stays_unmeasured():
    assert math.isnan(stability_number(math.nan, threshold=20.0))


# --- the load: mean-square stability under noise


@over_optimizers
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.7, 0.95])
def test_the_mean_square_contracts_below_load_two_and_grows_above(case, fraction):
    # Decoupled decay, which the load leaves out, is of relative size lr * weight_decay / (1 - b) <= 5e-4.
    frozen = FrozenOptimizer(case, 1, lr=1e-3)
    signal = fraction * 2.0 / frozen.dynamics.signal_weight
    noise = bisect(lambda noise: load_number(signal, noise, frozen.dynamics), 2.0, upper=1e3)
    assert mean_square_radius(frozen, signal, 0.99 * noise) < 1.0
    assert mean_square_radius(frozen, signal, 1.01 * noise) > 1.0


def mean_square_radius(frozen: FrozenOptimizer, signal: float, noise: float) -> float:
    """Growth a step of the second moments when the curvature is one of two values, by a coin."""
    scale = frozen.preconditioner.item() / frozen.dynamics.step_size
    mean, deviation = signal * scale, math.sqrt(noise * signal) * scale
    steps = [step_matrix(frozen, mean + sign * deviation) for sign in (-1.0, 1.0)]
    second_moments = sum(torch.kron(step, step) for step in steps) / 2.0
    return spectral_radius(second_moments)


def spectral_radius(matrix: Tensor) -> float:
    return torch.linalg.eigvals(matrix).abs().max().item()


def step_matrix(frozen: FrozenOptimizer, curvature: float) -> Tensor:
    """One real step at that curvature (coupled decay included), as a matrix on (weight, average)."""
    columns = []
    for start in ((TINY, 0.0), (0.0, TINY)):
        frozen.reset(*start)
        after = frozen.step((curvature - frozen.dynamics.l2_decay) * frozen.parameter.detach()).item()
        average = 0.0 if frozen.average is None else frozen.average.item()
        columns.append([after / TINY, average / TINY])
    return torch.tensor(columns, dtype=torch.float64).T


@over_optimizers
def test_decoupled_decay_holds_negative_curvature_down_to_the_decay(case):
    frozen = FrozenOptimizer(case, 1)
    floor = -frozen.dynamics.decoupled_decay / frozen.dynamics.step_size * frozen.preconditioner.item()
    if floor:
        assert spectral_radius(step_matrix(frozen, 0.99 * floor)) < 1.0
    assert spectral_radius(step_matrix(frozen, 1.01 * floor - 1e-3)) > 1.0


HEAVY_BALL = StepDynamics(step_size=0.1, momentum=0.9)
NESTEROV = StepDynamics(step_size=0.1, momentum=0.9, lookahead=0.9)


@pytest.mark.parametrize("dynamics", [HEAVY_BALL, NESTEROV], ids=["heavy ball", "nesterov"])
def test_the_load_is_proportional_to_the_learning_rate(dynamics):
    assert load_number(3.0, 6.0, dynamics) == pytest.approx(3.0 * load_number(1.0, 2.0, dynamics), rel=1e-12)


@pytest.mark.parametrize("dynamics", [HEAVY_BALL, NESTEROV], ids=["heavy ball", "nesterov"])
def test_without_noise_the_load_is_the_stability_number(dynamics):
    curvature = 7.0
    expected = stability_number(curvature, dynamics.curvature_limit)
    assert load_number(dynamics.step_size * curvature, 0.0, dynamics) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dynamics", [HEAVY_BALL, NESTEROV], ids=["heavy ball", "nesterov"])
def test_noise_alone_is_not_averaged_away(dynamics):
    assert load_number(0.0, 1.3, dynamics) == pytest.approx(1.3, rel=1e-12)
    # continuous there: the quadratic's root moves by O(signal)
    assert load_number(1e-12, 1.3, dynamics) == pytest.approx(1.3, rel=1e-11)


@pytest.mark.parametrize(("signal", "noise"), [(-1.0, 0.5), (1.0, -0.5), (-1.0, -0.5)])
def test_parts_that_come_out_negative_are_added_up(signal, noise):
    assert load_number(signal, noise, NESTEROV) == noise + NESTEROV.signal_weight * signal


def test_an_unmeasured_part_leaves_the_load_unmeasured():
    assert math.isnan(load_number(math.nan, 1.0, NESTEROV))


def test_more_momentum_stabilises_adam_always_and_heavy_ball_only_where_signal_dominates():
    def adam(b: float) -> float:
        return load_number(0.2, 1.0, StepDynamics(step_size=1.0, momentum=b))

    def heavy_ball(b: float, relative_deviation: float) -> float:  # at fixed lr: the buffer sums
        signal = 0.2 / (1.0 - b)
        return load_number(signal, signal * relative_deviation**2, StepDynamics(step_size=1.0, momentum=b))

    crossing = (1.0 - 0.9) / (1.0 + 0.9)  # theory: sigma / h at which the sign changes
    assert adam(0.91) < adam(0.9)
    assert heavy_ball(0.9001, 0.9 * crossing) < heavy_ball(0.9, 0.9 * crossing)
    assert heavy_ball(0.9001, 1.1 * crossing) > heavy_ball(0.9, 1.1 * crossing)


def test_under_a_scheduler_the_threshold_is_that_of_the_lr_that_trains():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = DCAO(torch.optim.SGD([weight], lr=100.0))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    optimizer.minimize(lambda: weight.square().sum())
    (lr,) = optimizer.effective_lrs
    assert lr < optimizer.param_groups[0]["lr"] == 100.0
    assert stability_threshold(optimizer) == pytest.approx(2.0 / lr)
