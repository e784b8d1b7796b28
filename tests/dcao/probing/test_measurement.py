"""Every measure against dense float64 Hessians and against what the optimizer really does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn, optim

from dcao.isolation import capture_rng
from dcao.models import Model
from dcao.options import find_record
from dcao.probing.batch import Batch
from dcao.probing.estimate import CurvatureEstimate
from dcao.probing.probe import Probe
from dcao.probing.settings import ProbeSettings
from dcao.spectra.lanczos import LanczosStatus
from helpers.cases import NETWORKS, Problem
from helpers.frozen_optimizer import TINY, FrozenOptimizer, mean_square_growth
from helpers.optimizer_cases import OPTIMIZER_CASES, OptimizerCase
from helpers.reference import HandStep, dense_hessian, directional_parts, hand_step, load_by_hand

HAND_WORKED = [  # the optimizers whose step is written out by hand in reference.py
    "sgd",
    "sgd-l2",
    "sgd-momentum",
    "sgd-momentum-l2",
    "sgd-dampening",
    "sgd-nesterov",
    "sgd-nesterov-l2",
    "adam",
    "adam-l2",
    "adamw-wd",
    "rmsprop",
    "rmsprop-momentum",
    "rmsprop-l2",
]
CASES = [case for case in OPTIMIZER_CASES if case.name in HAND_WORKED]
BATCHES = [slice(0, 2), slice(2, 5), slice(5, 7)]  # ragged
SIZES = [2.0, 3.0, 2.0]


def over_cases(function):
    return pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)(function)


def named(name: str) -> OptimizerCase:
    return next(case for case in OPTIMIZER_CASES if case.name == name)


def mlp(**options) -> Problem:
    return NETWORKS["mlp"].problem(**options)


def measure(
    optimizer: optim.Optimizer,
    losses: Sequence[Callable[[], Tensor]],
    *,
    weights: Sequence[float] | None = None,
    past: Tensor | None = None,
    spectrum: bool = False,
    **settings,
) -> CurvatureEstimate:
    record = find_record(optimizer, needed=False, probed=True)
    probe = Probe(optimizer, Model(optimizer), record, ProbeSettings(**settings))
    probe.memory.past_gradient = None if past is None else [past]
    weights = [1.0] * len(losses) if weights is None else weights
    batches = [
        Batch(loss_fn=loss, weight=w, rng_state=capture_rng([])) for loss, w in zip(losses, weights, strict=True)
    ]
    return probe.measure(batches, step=0, spectrum=spectrum)


def in_two_groups(
    case: OptimizerCase, problem: Problem, *, ratio: float = 0.1, scale: float = 1.0, **options
) -> optim.Optimizer:
    """Biases in a group of their own, with another lr and, as is customary, other options."""
    weights = [p for p in problem.params if p.ndim > 1]
    biases = [p for p in problem.params if p.ndim == 1]
    lr = scale * case.lr
    return case.make([{"params": weights}, {"params": biases, "lr": ratio * lr, **options}], lr)


def train(optimizer: optim.Optimizer, problem: Problem, num_steps: int, scale: float = 1.0) -> None:
    for step in range(num_steps):
        optimizer.zero_grad()
        (scale * problem.loss(BATCHES[step % len(BATCHES)])).backward()
        optimizer.step()


def flat_gradient(problem: Problem) -> Tensor:
    gradients = torch.autograd.grad(problem.loss(), problem.params, allow_unused=True, materialize_grads=True)
    return torch.cat([g.reshape(-1) for g in gradients])


def hand_steps(optimizer: optim.Optimizer, params: Sequence[Tensor], batches: Sequence[Problem]) -> list[HandStep]:
    return [hand_step(optimizer, params, flat_gradient(batch)) for batch in batches]


def momentum_of(optimizer: optim.Optimizer) -> float:
    group = optimizer.param_groups[0]
    return group["betas"][0] if "betas" in group else group["momentum"]


def is_nesterov(optimizer: optim.Optimizer) -> bool:
    return optimizer.param_groups[0].get("nesterov", False)


# --- batch and load


@over_cases
@pytest.mark.parametrize("num_steps", [0, 4], ids=["at_start", "later"])
def test_batch_and_load_of_several_batches_are_their_definition(case, num_steps):
    problem = mlp()
    optimizer = in_two_groups(case, problem, weight_decay=0.0)
    train(optimizer, problem, num_steps)
    parts = [problem.batch(rows) for rows in BATCHES]
    measured = measure(optimizer, [part.loss for part in parts], weights=SIZES, hvp="exact")

    steps = hand_steps(optimizer, problem.params, parts)
    total, signal = directional_parts(steps, [dense_hessian(part) for part in parts], SIZES)
    assert measured.stability["batch"] == pytest.approx(total, rel=1e-9)
    assert measured.load_signal == pytest.approx(signal, rel=1e-9)
    assert measured.load_noise == pytest.approx(total - signal, rel=1e-9)
    load = load_by_hand(signal, total - signal, momentum_of(optimizer), nesterov=is_nesterov(optimizer))
    assert measured.s == measured.stability["load"] == pytest.approx(load, rel=1e-9)
    # in units of 1 / lr: of the effective lr of the group with the largest
    assert measured.batch == pytest.approx(total / float(steps[0].step_size.max()), rel=1e-9)
    assert measured.loss == pytest.approx(problem.loss().item(), rel=1e-12)  # the ragged parts make up the whole


@over_cases
def test_one_batch_takes_its_signal_from_the_batch_before(case):
    problem = mlp()
    optimizer = in_two_groups(case, problem, weight_decay=0.0)
    train(optimizer, problem, 4)
    before, now = problem.batch(BATCHES[0]), problem.batch(BATCHES[1])
    past = flat_gradient(before)
    in_group_order = torch.cat([past.split(sizes(problem.params))[i] for i in order_in_groups(optimizer, problem)])
    measured = measure(optimizer, [now.loss], past=in_group_order, hvp="exact")

    step, H = hand_step(optimizer, problem.params, flat_gradient(now)), dense_hessian(now)
    # the past goes along with the P of the coming step: one geometry for both
    past_displacement = (past + step.decay * flat(problem.params)) * step.displacement / step.gradient
    product = (H + torch.diag(step.decay)) @ step.displacement
    slope = step.gradient @ step.displacement
    assert measured.stability["batch"] == pytest.approx(float(step.displacement @ product / slope), rel=1e-9)
    assert measured.load_signal == pytest.approx(float(past_displacement @ product / slope), rel=1e-9)


def sizes(params: Sequence[Tensor]) -> list[int]:
    return [p.numel() for p in params]


def order_in_groups(optimizer: optim.Optimizer, problem: Problem) -> list[int]:
    """Where the parameters that a probe sees one after the other stand in the model."""
    position = {id(p): index for index, p in enumerate(problem.params)}
    return [position[id(p)] for group in optimizer.param_groups for p in group["params"]]


def flat(params: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in params])


@pytest.mark.parametrize("hvp", ["auto", "forward", "central"])
def test_differences_measure_what_exact_products_do(hvp):
    problem = mlp()
    optimizer = in_two_groups(named("adamw-wd"), problem)
    train(optimizer, problem, 4)
    losses = [problem.batch(rows).loss for rows in BATCHES]
    exact = measure(optimizer, losses, hvp="exact")
    measured = measure(optimizer, losses, hvp=hvp)
    # one-sided differences: roundoff u / e and truncation e, both 1e-8 for e = u^(1/2), times a third derivative
    assert measured.s == pytest.approx(exact.s, rel=1e-5)
    assert measured.hvp == {"auto": "forward"}.get(hvp, hvp)


def test_differences_in_single_precision_measure_it_too():
    problem = mlp(dtype=torch.float32)
    optimizer = in_two_groups(named("adamw-wd"), problem)
    train(optimizer, problem, 4)
    losses = [problem.batch(rows).loss for rows in BATCHES]
    # u^(1/2) = 2e-4 for float32, times a few
    assert measure(optimizer, losses).s == pytest.approx(measure(optimizer, losses, hvp="exact").s, rel=5e-3)


def test_a_step_length_of_step_meets_the_kink_that_the_step_meets():
    weight = nn.Parameter(torch.tensor([0.05], dtype=torch.float64))
    optimizer = optim.SGD([weight], lr=0.1)

    def two_slopes() -> Tensor:  # slope 3 above 0 and -1 below: the step from 0.05 to -0.25 crosses the kink
        return torch.where(weight > 0.0, 3.0 * weight, -weight).sum()

    assert measure(optimizer, [two_slopes]).stability["batch"] == pytest.approx(0.0, abs=1e-6)
    # change of slope over the length of the step, times lr: 4 / 0.3 * 0.1
    assert measure(optimizer, [two_slopes], step_length="step").stability["batch"] == pytest.approx(4.0 / 3.0)


# --- truth under noise: a quadratic whose batch curvature is 0 or `top`, by a coin

NOISY = ["sgd", "sgd-momentum", "sgd-dampening", "sgd-nesterov", "adam", "adamw", "rmsprop-momentum"]
# b2 so near 1 that a long run of tiny gradients leaves P alone without being put back after every step
STEADY_ADAMW = OptimizerCase("adamw", partial(optim.AdamW, weight_decay=0.0, betas=(0.9, 1.0 - 1e-12)), 1e-3)


def coin_losses(weight: Tensor, top: float, count: int) -> list[Callable[[], Tensor]]:
    """Half the batches do not see the direction at all."""
    return [partial(quadratic, weight, top if index % 2 else 0.0) for index in range(count)]


def quadratic(weight: Tensor, curvature: float) -> Tensor:
    return 0.5 * curvature * weight.square().sum()


def late(case: OptimizerCase) -> FrozenOptimizer:
    """Frozen where the bias of the first moment is long gone, at weights whose gradients leave P alone."""
    frozen = FrozenOptimizer(case, 1, lr=1e-3)
    for state in (frozen.state, frozen.frozen):
        if "step" in state:
            state["step"].fill_(1e4)
    frozen.reset(TINY)
    return frozen


def top_at_load(wanted: float, frozen: FrozenOptimizer, count: int) -> float:
    """The curvature at which the measured load is ``wanted``: to it the load is all but proportional."""
    top = 1.0
    for _ in range(2):
        measured = measure(frozen.optimizer, coin_losses(frozen.parameter, top, count), hvp="exact")
        assert measured.s is not None
        top *= wanted / measured.s
    return top


@pytest.mark.parametrize("name", NOISY)
def test_the_measured_load_is_two_where_the_mean_square_of_real_steps_starts_to_grow(name):
    frozen = late(named(name))
    # pairs of different batches out of 100, not independent ones: the signal is off by 1 / 100, s by no more
    edge = top_at_load(2.0, frozen, count=100)
    assert mean_square_growth(frozen, [0.0, 0.98 * edge]) < 1.0
    assert mean_square_growth(frozen, [0.0, 1.02 * edge]) > 1.0


@pytest.mark.parametrize("case", [named("sgd-momentum"), STEADY_ADAMW], ids=lambda case: case.name)
@pytest.mark.parametrize("load", [1.6, 2.4])
def test_many_noisy_runs_of_the_real_optimizer_shrink_below_two_and_grow_above(case, load):
    frozen = late(case)
    top = top_at_load(load, frozen, count=100)
    many = nn.Parameter(torch.full((4000,), TINY, dtype=torch.float64))  # a run each: the update is elementwise
    optimizer = case.make([many], 1e-3)
    if "exp_avg_sq" in frozen.frozen:
        preset = {"step": frozen.frozen["step"], "exp_avg": 0.0, "exp_avg_sq": frozen.frozen["exp_avg_sq"]}
        shapes = {"step": ()}
        optimizer.state[many] = {
            key: torch.as_tensor(value, dtype=many.dtype).expand(shapes.get(key, many.shape)).clone()
            for key, value in preset.items()
        }
    generator = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(120):
        coins = torch.randint(0, 2, many.shape, generator=generator)
        many.grad = top * coins * many.detach()
        optimizer.step()
        squares.append(many.detach().square().mean().item())
    # 60 steps between, many times the memory of momentum 0.9
    assert (squares[-1] > squares[59]) == (load > 2.0)


def test_the_estimate_converges_to_the_true_parts_as_batches_are_added():
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.SGD([weight], lr=0.02, momentum=0.9)
    top, share = 3.0, 0.25
    coins = (torch.rand(500, generator=torch.Generator().manual_seed(1)) < share).tolist()
    losses = [partial(quadratic, weight, top if coin else 0.0) for coin in coins]
    eta = 0.02 / (1.0 - 0.9)
    signal, noise = eta * share * top, eta * (1.0 - share) * top  # eta * mean, eta * variance / mean
    few, many = (measure(optimizer, losses[:count], hvp="exact") for count in (100, 500))
    for measured, count in ((few, 100), (many, 500)):
        error = 4.0 * math.sqrt((1.0 - share) / share / count)  # four standard errors of the share of coins
        assert measured.load_signal == pytest.approx(signal, rel=error)
        assert measured.load_noise == pytest.approx(noise, rel=error)
    assert many.s == pytest.approx(noise + signal / 19.0, rel=0.05)


def test_curvature_that_varies_by_degrees_is_overestimated_and_never_under():
    """The measure's noise has a third moment where the theory has a second one: E[c^3]/E[c^2] >= E[c^2]/E[c]."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.SGD([weight], lr=0.1)
    curvatures = (
        1.0 + 0.3 * torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ).tolist()
    measured = measure(optimizer, [partial(quadratic, weight, c) for c in curvatures], hvp="exact")
    moment = {k: sum(c**k for c in curvatures) / len(curvatures) for k in (1, 2, 3)}
    assert measured.stability["batch"] == pytest.approx(0.1 * moment[3] / moment[2], rel=1e-12)
    true = 0.1 * moment[2] / moment[1]
    variance_part = true - 0.1 * moment[1]
    # to first order in the variance the noise part is twice the true one
    assert true < measured.stability["batch"] < true + 1.2 * variance_part


# --- hessian and preconditioned

EDGE_TIMES_LR = {  # theory.md section 1, of the curvature of P^-1/2 (H + coupled decay) P^-1/2
    "sgd": 2.0,
    "sgd-l2": 2.0,
    "sgd-momentum": 3.8,
    "sgd-momentum-l2": 3.8,
    "sgd-dampening": 7.6,
    "sgd-nesterov": 3.8 / 2.8,
    "sgd-nesterov-l2": 3.4 / 2.4,
    "adam": 38.0,
    "adam-l2": 38.0,
    "adamw-wd": 38.0 - 19.0 * 3e-3 * 0.05,
    "rmsprop": 2.0,
    "rmsprop-momentum": 3.8,
    "rmsprop-l2": 3.0,
}


def preconditioned_by_hand(problem: Problem, optimizer: optim.Optimizer) -> float:
    step = hand_step(optimizer, problem.params, flat_gradient(problem))
    H = dense_hessian(problem) + torch.diag(step.decay)
    root = (step.lr / step.lr.max() / step.preconditioner).sqrt()
    return float(torch.linalg.eigvalsh(root[:, None] * H * root)[-1])


@over_cases
@pytest.mark.parametrize("num_steps", [0, 4], ids=["at_start", "later"])
def test_preconditioned_is_the_largest_eigenvalue_relative_to_the_published_edge(case, num_steps):
    problem = mlp()
    optimizer = in_two_groups(case, problem)
    train(optimizer, problem, num_steps)
    truth = preconditioned_by_hand(problem, optimizer)
    measured = measure(optimizer, [problem.loss], measure="preconditioned", tolerance=1e-8, num_lanczos_steps=119)
    assert measured.preconditioned_sharpness == pytest.approx(truth, rel=1e-7)
    edge = EDGE_TIMES_LR[case.name] / optimizer.param_groups[0]["lr"]
    assert measured.s == measured.stability["preconditioned"] == pytest.approx(2.0 * truth / edge, rel=1e-7)
    assert measured.trust == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("name", ["sgd-momentum-l2", "adam-l2", "rmsprop-l2"])
def test_groups_exempt_from_coupled_decay_are_measured_without_it(name):
    problem = mlp()
    case = named(name)
    # decay strong enough, and on biases sharp enough, to decide the largest eigenvalue
    optimizer = in_two_groups(case, problem, ratio=0.99, weight_decay=0.0)
    optimizer.param_groups[0]["weight_decay"] = 50.0
    train(optimizer, problem, 1)
    truth = preconditioned_by_hand(problem, optimizer)
    measured = measure(optimizer, [problem.loss], measure="preconditioned", tolerance=1e-8, num_lanczos_steps=119)
    assert measured.preconditioned_sharpness == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("name", ["sgd-momentum-l2", "adamw-wd"])
def test_hessian_is_the_proposals_lr_times_the_largest_eigenvalue(name):
    problem = mlp()
    optimizer = in_two_groups(named(name), problem)
    train(optimizer, problem, 4)
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(problem)).flip(0)
    settings = {"measure": "hessian", "k": 3, "tolerance": 1e-6, "num_lanczos_steps": 119, "smallest": True}
    measured = measure(optimizer, [problem.loss], **settings)
    lr = optimizer.param_groups[0]["lr"]
    assert measured.s == pytest.approx(lr * float(eigenvalues[0]), rel=1e-9)
    assert measured.ritz_values == pytest.approx(eigenvalues[:3].tolist(), rel=1e-9)
    assert measured.sharpness == measured.ritz_values[0]
    assert measured.spectral_gap == pytest.approx(float(eigenvalues[0] - eigenvalues[1]), rel=1e-9)
    assert measured.smallest == pytest.approx(float(eigenvalues[-1]), rel=1e-6)
    assert measured.status is LanczosStatus.CONVERGED
    assert all(r <= 1e-6 * v for r, v in zip(measured.residuals, measured.ritz_values, strict=True))
    aware = measure(optimizer, [problem.loss], momentum_aware=True, **settings)
    assert aware.s == pytest.approx(measured.s / 1.9, rel=1e-9)


def test_several_batches_have_the_hessian_of_all_rows_together():
    problem = mlp()
    optimizer = in_two_groups(named("sgd"), problem)
    losses = [problem.batch(rows).loss for rows in BATCHES]
    measured = measure(optimizer, losses, weights=SIZES, measure="hessian", k=1, tolerance=1e-6, num_lanczos_steps=119)
    assert measured.sharpness == pytest.approx(float(torch.linalg.eigvalsh(dense_hessian(problem))[-1]), rel=1e-9)


@pytest.mark.parametrize("name", ["sgd-momentum", "adamw"])
def test_a_spectrum_comes_beside_the_load_when_asked_for_with_every_s(name):
    problem = mlp()
    optimizer = in_two_groups(named(name), problem)
    settings = {"k": 2, "tolerance": 1e-6, "num_lanczos_steps": 119}
    measured = measure(optimizer, [problem.loss], spectrum=True, **settings)
    alone = measure(optimizer, [problem.loss], measure="preconditioned", **settings)
    truth = torch.linalg.eigvalsh(dense_hessian(problem)).flip(0)[:2].tolist()
    assert measured.ritz_values == pytest.approx(truth, rel=1e-9)
    assert set(measured.stability) == {"batch", "load", "hessian", "preconditioned"}
    assert measured.stability["preconditioned"] == pytest.approx(alone.s, rel=1e-9)
    assert measured.s == measured.stability["load"]
    assert measured.smallest is None


def test_a_spectrum_of_an_optimizer_without_a_threshold_is_of_the_hessian_alone():
    problem = mlp()
    measured = measure(optim.Rprop(problem.params, lr=0.1), [problem.loss], measure="hessian", spectrum=True, k=2)
    assert set(measured.stability) == {"hessian"}
    assert len(measured.ritz_values) == 2


def test_only_the_chosen_groups_are_measured():
    problem = mlp()
    optimizer = in_two_groups(named("sgd"), problem)  # groups: weights, biases
    is_bias = torch.cat([torch.full((p.numel(),), p.ndim == 1) for p in problem.params])
    block = dense_hessian(problem)[is_bias][:, is_bias]
    settings = {"groups": (1,), "k": 1, "tolerance": 1e-8, "num_lanczos_steps": 16}
    measured = measure(optimizer, [problem.loss], spectrum=True, hvp="exact", **settings)
    assert measured.sharpness == pytest.approx(float(torch.linalg.eigvalsh(block)[-1]), rel=1e-9)
    lr, g = optimizer.param_groups[1]["lr"], flat_gradient(problem)[is_bias]
    assert measured.stability["batch"] == pytest.approx(lr * float(g @ block @ g / (g @ g)), rel=1e-9)
    assert measured.stability["hessian"] == pytest.approx(lr * measured.sharpness, rel=1e-12)


def test_a_group_that_does_not_exist_is_refused():
    problem = mlp()
    with pytest.raises(ValueError, match=r"groups must be in 0\.\.1, got \[2\]"):
        measure(in_two_groups(named("sgd"), problem), [problem.loss], groups=(2,))


# --- invariance: Adam does not see the scale of the loss, so neither must s


@pytest.mark.parametrize("num_steps", [0, 4], ids=["at_start", "later"])
def test_s_of_adamw_does_not_depend_on_the_scale_of_the_loss_and_the_raw_one_does(num_steps):
    numbers = []
    for scale in (1.0, 1e3):
        problem = mlp()
        optimizer = optim.AdamW(problem.params, lr=3e-3, eps=1e-30)
        train(optimizer, problem, num_steps, scale)
        losses = [lambda rows=rows, scale=scale, p=problem: scale * p.loss(rows) for rows in BATCHES]
        along = measure(optimizer, losses, hvp="exact")
        settings = {"tolerance": 1e-10, "num_lanczos_steps": 119, "k": 1}
        whole = measure(optimizer, losses, measure="preconditioned", spectrum=True, **settings)
        numbers.append({**along.stability, **whole.stability})
    small, large = numbers
    for name in ("batch", "load", "preconditioned"):
        assert large[name] == pytest.approx(small[name], rel=1e-6), name
    assert large["hessian"] == pytest.approx(1e3 * small["hessian"], rel=1e-6)


# --- how far to trust it


def test_half_precision_is_measured_in_single_precision_copies():
    problem = mlp(dtype=torch.float32)
    half = mlp(dtype=torch.bfloat16)
    with torch.no_grad():
        for wide, narrow in zip(problem.params, half.params, strict=True):
            wide.copy_(narrow)

    def loss() -> Tensor:
        x = half.inputs.to(half.params[0].dtype)
        return half.criterion(half.model(x), half.targets)

    problem.inputs.copy_(half.inputs)
    optimizers = [optim.SGD(p.params, lr=0.05, momentum=0.9) for p in (problem, half)]
    wide, narrow = measure(optimizers[0], [problem.loss]), measure(optimizers[1], [loss])
    # the direction is a bfloat16 gradient (8 bits), the product along it is not
    assert narrow.s == pytest.approx(wide.s, rel=0.02)
    assert narrow.cost == wide.cost + 1.0  # the gradient is evaluated once more, in the copies
    spectrum = measure(optimizers[1], [loss], measure="hessian", k=1)
    assert spectrum.s == pytest.approx(measure(optimizers[0], [problem.loss], measure="hessian", k=1).s, rel=0.02)
    assert (spectrum.hvp, "bfloat16" in spectrum.reason) == ("central", True)


def one_weight(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value], dtype=torch.float64))


UNTRUSTED = [
    ("nan", lambda w: (w * math.nan).sum(), "the gradient is not finite"),
    ("inf", lambda w: (w * math.inf).sum(), "the gradient is not finite"),
    ("zero", lambda w: (0.0 * w).sum(), "there is no step: the gradient is zero, or lr is 0"),
]


@pytest.mark.parametrize(("name", "loss", "reason"), UNTRUSTED, ids=[row[0] for row in UNTRUSTED])
@pytest.mark.parametrize("case", [named("sgd-momentum"), named("adamw")], ids=lambda case: case.name)
def test_a_gradient_that_says_nothing_is_no_measurement(name, loss, reason, case):
    weight = one_weight(0.5)
    measured = measure(case.make([weight], case.lr), [lambda: loss(weight)])
    assert (measured.s, measured.trust, measured.reason) == (None, 0.0, reason)


def test_a_loss_that_is_not_finite_one_step_away_is_an_infinite_s():
    weight = one_weight(0.5)
    measured = measure(optim.SGD([weight], lr=1.0), [lambda: weight.sqrt().sum()], step_length=1.0)
    assert (measured.s, measured.batch, measured.trust) == (math.inf, math.inf, 1.0)
    assert measured.reason == "the gradient one step away is not finite"


@pytest.mark.parametrize("which", ["hessian", "preconditioned"])
def test_a_spectrum_of_nan_is_a_status_without_trust(which):
    weight = one_weight(0.5)
    measured = measure(optim.SGD([weight], lr=1.0), [lambda: (weight * math.nan).square().sum()], measure=which)
    assert (measured.s, measured.trust, measured.status) == (None, 0.0, LanczosStatus.NONFINITE)
    assert "nan or inf" in measured.reason


def test_too_few_lanczos_steps_lower_the_trust_and_say_so():
    problem = mlp()
    measured = measure(
        in_two_groups(named("sgd"), problem), [problem.loss], measure="hessian", k=1, num_lanczos_steps=4
    )
    assert measured.status is LanczosStatus.MAX_STEPS
    assert 0.0 < measured.trust < 0.9
    assert measured.trust == pytest.approx(1.0 - measured.residuals[0] / measured.ritz_values[0])
    assert "step budget spent" in measured.reason


def test_an_lr_of_zero_as_at_the_start_of_a_warmup_is_measured_as_s_zero_or_not_at_all():
    weight = one_weight(0.5)
    measured = measure(optim.SGD([weight], lr=0.0), [lambda: weight.square().sum()])
    assert not measured.s
    assert "lr is 0" in measured.reason
