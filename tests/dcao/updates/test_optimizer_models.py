"""What we say of each optimizer against what the real one does to the weights in one step."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import optim

from dcao.updates.registry import (
    OPTIMIZER_MODELS,
    NoPreconditionerYet,
    OptimizerModel,
    StepDynamics,
    optimizer_model,
    register_optimizer,
)
from helpers.frozen_optimizer import FrozenOptimizer, displacement_in_the_long_run, step_from_zero_averages
from helpers.optimizer_cases import OPTIMIZER_CASES, OptimizerCase

# NAdam keeps its product of momenta in float32, whose roundoff is 6e-8; a few operations on it.
CLOSE = partial(pytest.approx, rel=1e-6)
GRADIENT = torch.tensor([0.3, -2.0, 1e-3], dtype=torch.float64)


def over_optimizers(function):
    return pytest.mark.parametrize("case", OPTIMIZER_CASES, ids=lambda case: case.name)(function)


def named(name: str) -> OptimizerCase:
    return next(case for case in OPTIMIZER_CASES if case.name == name)


def weight(size: int = 2, **options) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(size, **options))


# --- preconditioners


@over_optimizers
def test_a_real_step_from_zero_averages_is_what_preconditioner_and_dynamics_say(case):
    stepped, expected = step_from_zero_averages(case)
    assert stepped == CLOSE(expected)


@over_optimizers
def test_a_constant_gradient_moves_the_weights_by_the_step_size_in_the_long_run(case):
    moved, expected = displacement_in_the_long_run(case)
    assert moved == CLOSE(expected)


@over_optimizers
def test_the_live_preconditioner_after_a_step_is_what_the_coming_one_was_before_it(case):
    parameter = weight(3, dtype=torch.float64)
    optimizer = case.make([parameter], case.lr)
    model, group = optimizer_model(optimizer), optimizer.param_groups[0]
    for scale in (3.0, 1.0, 0.1):  # shrinking: amsgrad's maximum differs from the average
        parameter.grad = scale * GRADIENT
        seen = parameter.grad + model.dynamics(group, optimizer.state.get(parameter, {})).l2_decay * parameter.detach()
        coming = model.preconditioner(group, optimizer.state.get(parameter, {}), seen)
        optimizer.step()
        live = model.preconditioner(group, optimizer.state.get(parameter, {}))
        if coming is None:
            assert live is None
        else:
            assert live.tolist() == CLOSE(coming.tolist())


VARIANTS = [
    ("adam foreach", partial(optim.Adam, foreach=True)),
    ("adam fused", partial(optim.Adam, fused=True, amsgrad=True)),
    ("adam tensor lr", lambda params, lr: optim.Adam(params, torch.tensor(lr))),
    ("adamw fused", partial(optim.AdamW, fused=True)),
    ("adagrad fused", partial(optim.Adagrad, fused=True)),
    ("sgd fused", partial(optim.SGD, fused=True, momentum=0.9)),
    ("sgd tensor lr", lambda params, lr: optim.SGD(params, torch.tensor(lr), momentum=0.9)),
    ("rmsprop foreach", partial(optim.RMSprop, foreach=True, centered=True, momentum=0.5)),
    ("nadam foreach", partial(optim.NAdam, foreach=True)),
]


@pytest.mark.parametrize(("name", "make"), VARIANTS, ids=[row[0] for row in VARIANTS])
def test_every_implementation_of_an_optimizer_is_read_alike(name, make):
    # 0.015625 is exact in float32, in which a tensor lr is kept
    test_a_real_step_from_zero_averages_is_what_preconditioner_and_dynamics_say(OptimizerCase(name, make, 2**-6))


@over_optimizers
def test_before_the_first_step_there_is_no_live_preconditioner(case):
    parameter = weight()
    optimizer = case.make([parameter], case.lr)
    model, group, state = (
        optimizer_model(optimizer),
        optimizer.param_groups[0],
        optimizer.state.get(parameter, {}),
    )
    if isinstance(optimizer, optim.SGD):
        assert model.denominator(group, state, None) is None
    elif group.get("initial_accumulator_value"):
        assert model.denominator(group, state, None).tolist() == pytest.approx([math.sqrt(0.1)] * 2)
    else:
        with pytest.raises(NoPreconditionerYet, match=r"no state yet: .* take a step or pass the gradient"):
            model.preconditioner(group, state)


@pytest.mark.parametrize("name", ["adam", "nadam"])
def test_before_the_first_step_there_is_no_correction_of_the_last_one(name):
    optimizer = named(name).make([weight()], 0.1)
    with pytest.raises(NoPreconditionerYet, match="no state yet"):
        optimizer_model(optimizer).first_moment_correction(optimizer.param_groups[0], {}, False)


def test_adagrad_starts_from_its_initial_value_also_where_the_state_is_missing():
    optimizer = named("adagrad-l2").make([weight()], 0.1)
    gradient = torch.tensor([1.0, 2.0])
    coming = optimizer_model(optimizer).denominator(optimizer.param_groups[0], {}, gradient)
    assert coming.tolist() == pytest.approx([math.sqrt(1.1), math.sqrt(4.1)])


def test_the_variance_of_a_constant_gradient_is_zero_and_not_nan():
    optimizer = named("rmsprop-centered").make([weight(1)], 0.1)
    state = {"square_avg": torch.tensor([1.0]), "grad_avg": torch.tensor([1.0 + 1e-6])}
    assert optimizer_model(optimizer).denominator(optimizer.param_groups[0], state, None).item() == CLOSE(1e-8)


def test_half_precision_state_is_read_in_single_precision():
    parameter = weight(2, dtype=torch.bfloat16)
    optimizer = optim.Adam([parameter], lr=1e-3)
    model, group = optimizer_model(optimizer), optimizer.param_groups[0]
    coming = model.denominator(group, {}, torch.tensor([1.5, -2.5], dtype=torch.bfloat16))
    assert coming.dtype == torch.float32
    assert coming.tolist() == CLOSE([1.5, 2.5])


@over_optimizers
def test_reading_leaves_the_state_as_it_is(case):
    frozen = FrozenOptimizer(case, 3)
    before = {key: value.clone() for key, value in frozen.state.items()}
    frozen.model.preconditioner(frozen.group, frozen.state, GRADIENT)
    if before:
        frozen.model.preconditioner(frozen.group, frozen.state)
    assert all(torch.equal(before[key], value) for key, value in frozen.state.items())


# --- a change of momentum


def step_lengths(optimizer: optim.Optimizer, parameter: torch.nn.Parameter, num_steps: int) -> list[float]:
    lengths = []
    for _ in range(num_steps):
        before = parameter.item()
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        lengths.append(before - parameter.item())
    return lengths


SUMMING = [
    ("heavy ball", partial(optim.SGD, momentum=0.9)),
    ("dampened", partial(optim.SGD, momentum=0.9, dampening=0.5)),
    ("nesterov", partial(optim.SGD, momentum=0.9, nesterov=True)),
    ("rmsprop", partial(optim.RMSprop, momentum=0.9, alpha=0.5)),
]


@pytest.mark.parametrize("new", [0.99, 0.5])
@pytest.mark.parametrize(("name", "make"), SUMMING, ids=[row[0] for row in SUMMING])
def test_a_summing_buffer_keeps_the_step_length_when_momentum_changes_at_equal_step_size(name, make, new):
    parameter = weight(1, dtype=torch.float64)
    optimizer = make([parameter], 0.01)
    model, group = optimizer_model(optimizer), optimizer.param_groups[0]
    steady = step_lengths(optimizer, parameter, 400)[-1]  # 0.9^400 = 5e-19: the buffer is full
    step_size = model.dynamics(group, {}).step_size
    model.rescale_momentum(group, optimizer.state[parameter], 0.9, new)
    group["momentum"] = new
    group["lr"] *= (1.0 - new) / (1.0 - 0.9)
    assert model.dynamics(group, {}).step_size == pytest.approx(step_size, rel=1e-12)
    assert step_lengths(optimizer, parameter, 5) == pytest.approx([steady] * 5, rel=1e-9)


@pytest.mark.parametrize("new", [0.99, 0.5])
@pytest.mark.parametrize("name", ["adam", "adamw", "adam-amsgrad"])
def test_adams_step_length_survives_a_change_of_momentum_at_step_20(name, new):
    parameter = weight(1, dtype=torch.float64)
    optimizer = named(name).make([parameter], 0.01)
    model, group = optimizer_model(optimizer), optimizer.param_groups[0]
    step_lengths(optimizer, parameter, 20)
    change_beta1(model, group, optimizer.state[parameter], new)
    assert step_lengths(optimizer, parameter, 5) == CLOSE([0.01] * 5)  # without it 4.62 times that at 0.99


def change_beta1(model: OptimizerModel, group: dict, state: dict, new: float) -> None:
    model.rescale_momentum(group, state, group["betas"][0], new)
    group["betas"] = (new, group["betas"][1])


def test_adam_can_change_its_momentum_again_and_again():
    parameter = weight(1, dtype=torch.float64)
    optimizer = optim.Adam([parameter], 0.01)
    model, group = optimizer_model(optimizer), optimizer.param_groups[0]
    step_lengths(optimizer, parameter, 3)
    for new in (0.99, 0.3, 0.0, 0.95):
        change_beta1(model, group, optimizer.state[parameter], new)
        assert step_lengths(optimizer, parameter, 3) == CLOSE([0.01] * 3)


def test_nadam_needs_no_rescaling():
    parameter = weight(1, dtype=torch.float64)
    optimizer = optim.NAdam([parameter], 0.01)
    model, group = optimizer_model(optimizer), optimizer.param_groups[0]
    step_lengths(optimizer, parameter, 20)
    average = optimizer.state[parameter]["exp_avg"].clone()
    change_beta1(model, group, optimizer.state[parameter], 0.99)
    assert torch.equal(optimizer.state[parameter]["exp_avg"], average)
    # as before the change: the average, 1 - 0.9^20 = 0.88 full, has half the weight, so that 6 % are missing
    assert step_lengths(optimizer, parameter, 5) == pytest.approx([0.01] * 5, rel=0.07)


@pytest.mark.parametrize("name", ["sgd-momentum", "adam", "nadam", "rmsprop-momentum"])
def test_before_the_first_step_there_is_nothing_to_rescale(name):
    optimizer = named(name).make([weight()], 0.1)
    state: dict = {}
    optimizer_model(optimizer).rescale_momentum(optimizer.param_groups[0], state, 0.9, 0.5)
    assert state == {}  # a state with anything in it would skip the optimizer's own initialisation


@pytest.mark.parametrize("make", [optim.SGD, optim.RMSprop])
def test_momentum_can_start_from_zero_and_go_back_to_it(make):
    parameter = weight(1)
    optimizer = make([parameter], lr=0.01, momentum=0.0)
    model, group = optimizer_model(optimizer), optimizer.param_groups[0]
    for old, new in ((0.0, 0.9), (0.9, 0.0), (0.0, 0.5)):
        step_lengths(optimizer, parameter, 2)
        model.rescale_momentum(group, optimizer.state[parameter], old, new)
        group["momentum"] = new
        buffer = optimizer.state[parameter].get("momentum_buffer")
        assert buffer is None or new == 0.5 or buffer.item() == 0.0
    step_lengths(optimizer, parameter, 2)


@over_optimizers
def test_the_momentum_key_names_the_entry_that_holds_the_momentum(case):
    optimizer = case.make([weight()], case.lr)
    model, group = optimizer_model(optimizer), optimizer.param_groups[0]
    entry = group.get(model.momentum_key, 0.0)
    momentum = entry[0] if model.momentum_key == "betas" else entry
    assert model.dynamics(group, {}).momentum == momentum
    assert (model.rescale_momentum is None) == (model.momentum_key is None)


@over_optimizers
def test_weight_decay_is_either_curvature_or_shrinkage(case):
    optimizer = case.make([weight()], case.lr)
    group = optimizer.param_groups[0]
    dynamics = optimizer_model(optimizer).dynamics(group, {})
    decoupled = group.get("decoupled_weight_decay", False)
    assert dynamics.l2_decay == (0.0 if decoupled else group["weight_decay"])
    assert dynamics.decoupled_decay == (case.lr * group["weight_decay"] if decoupled else 0.0)


# --- finding the record


def test_a_subclass_shares_its_parents_record():
    class Mine(optim.AdamW):
        pass

    assert optimizer_model(Mine([weight()])) is OPTIMIZER_MODELS[optim.AdamW]


def test_a_wrapper_is_looked_through():
    class Wrapper(optim.Optimizer):
        def __init__(self, base: optim.Optimizer) -> None:
            super().__init__(base.param_groups, base.defaults)
            self.base = base

    wrapper = Wrapper(optim.RMSprop([weight()]))
    assert optimizer_model(wrapper) is OPTIMIZER_MODELS[optim.RMSprop]


REFUSED = [
    ("Lion", "the sign of an average, whose length does not shrink with the gradient"),
    ("Muon", "orthogonalized average"),
    ("Rprop", "sign of the gradient"),
    ("LBFGS", "chooses its own step"),
    ("Mystery", "does not know its update rule"),
]


@pytest.mark.parametrize(("name", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_an_optimizer_without_a_threshold_is_refused_with_a_reason_and_a_way_out(name, reason):
    unknown = type(name, (optim.Optimizer,), {})([weight()], {})
    way_out = r'register_optimizer.*policies\.Fixed\(\), measure="hessian"'
    with pytest.raises(TypeError, match=rf"{name} has no stability threshold .*{reason}.*{way_out}"):
        optimizer_model(unknown)


def test_torchs_own_lbfgs_is_refused():
    with pytest.raises(TypeError, match="LBFGS has no stability threshold"):
        optimizer_model(optim.LBFGS([weight()]))


def test_maximize_is_refused():
    optimizer = optim.SGD([{"params": [weight()]}, {"params": [weight()], "maximize": True}], lr=0.1)
    with pytest.raises(ValueError, match=r"maximize must be False, got True in param group 1.*negate the loss"):
        optimizer_model(optimizer)


def test_a_registered_optimizer_is_found(monkeypatch):
    monkeypatch.setattr("dcao.updates.registry.OPTIMIZER_MODELS", dict(OPTIMIZER_MODELS))

    class Mine(optim.Optimizer):
        pass

    model = OptimizerModel(
        dynamics=lambda group, state: StepDynamics(step_size=group["lr"]),
        denominator=lambda group, state, grad: None,
    )
    register_optimizer(Mine, model)
    assert optimizer_model(Mine([weight()], {"lr": 0.1})) is model


def test_registering_an_instance_is_refused():
    optimizer = optim.SGD([weight()], lr=0.1)
    with pytest.raises(TypeError, match=r"must be a subclass of .*Optimizer, got .* type SGD; pass the class"):
        register_optimizer(optimizer, OPTIMIZER_MODELS[optim.SGD])


@pytest.mark.parametrize("step_size", [-0.1, math.nan, math.inf])
def test_a_step_size_that_is_no_length_is_refused(step_size):
    with pytest.raises(ValueError, match="step_size must be finite and not negative, got"):
        StepDynamics(step_size=step_size)
