"""Changing momentum and weight decay without side effects (design 6)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn, optim

from dcao import DCAO, Decision, Hyperparameters, MemoryRecorder, Observation, policies
from helpers.contract_cases import Run, case_name, dcao_run, named
from helpers.optimizer_cases import OptimizerCase

HELD = Decision(hyperparameters=Hyperparameters(lr=0.1), reason="held")
WRONG_ANSWERS = {
    "nothing": None,
    "no state": HELD,
    "no decision": (HELD.hyperparameters, {}),
    "too much": (HELD, {}, 1),
}


class Scripted(policies.Policy):
    """A policy that sets given values at its n-th decision, and keeps what is there before and after."""

    def __init__(self, at: int, **values: float) -> None:
        self.at, self.values = at, values

    def init(self, hyperparameters: Hyperparameters) -> dict[str, Any]:
        return {"num_decisions": 0}

    def propose(self, observation: Observation, state: dict[str, Any]) -> tuple[Decision, dict[str, Any]]:
        now = observation.hyperparameters
        if state["num_decisions"] == self.at:
            now = Hyperparameters(
                **{"lr": now.lr, "momentum": now.momentum, "weight_decay": now.weight_decay, **self.values}
            )
        return Decision(hyperparameters=now, reason="scripted"), {"num_decisions": state["num_decisions"] + 1}


def linear_run(case: OptimizerCase, lr: float, **settings: Any) -> tuple[nn.Parameter, DCAO]:
    weight = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    return weight, DCAO(case.make([weight], lr), every=1, **settings)


def step_lengths(weight: nn.Parameter, optimizer: DCAO, num_steps: int) -> list[float]:
    slope = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    lengths = []
    for _ in range(num_steps):
        before = weight.detach().clone()
        optimizer.minimize(lambda: weight @ slope)
        lengths.append(float((weight.detach() - before).norm()))
    return lengths


MOMENTUM_CASES = [
    named(name)
    for name in (
        "sgd-momentum",
        "sgd-nesterov",
        "sgd-dampening",
        "adam",
        "adam-fused",
        "adam-tensor-lr",
        "rmsprop-momentum",
    )
]


@pytest.mark.parametrize("scheduled", [False, True], ids=["", "scheduled"])
@pytest.mark.parametrize("momentum", [0.5, 0.99])
@pytest.mark.parametrize("case", MOMENTUM_CASES, ids=case_name)
def test_right_after_a_change_of_momentum_a_constant_gradient_gives_steps_of_the_same_length(case, momentum, scheduled):
    """Uncompensated, SGD's steps become 10 times longer at .99, and Adam's 4.6 times at step 20."""
    at = 300 if "adam" not in case.name else 20  # SGD's and RMSprop's buffers have no bias correction: let them fill
    weight, optimizer = linear_run(case, 1e-4, policy=Scripted(at, momentum=momentum))
    if scheduled:
        optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    lengths = step_lengths(weight, optimizer, at + 12)
    assert optimizer.controller.hyperparameters().momentum == pytest.approx(momentum)
    # .9**300 is 2e-14; a float32 lr or second moment is good to 1e-7 and RMSprop's still fills by .99**300 = 5 %.
    tolerance = 1e-2 if "rmsprop" in case.name else 2e-6
    assert lengths[at:] == pytest.approx([lengths[at - 1]] * 12, rel=tolerance)


def test_a_compensated_lr_is_shown_as_it_trains_and_survives_a_checkpoint():
    weight, optimizer = linear_run(named("sgd-momentum"), 1e-2, policy=Scripted(2, momentum=0.8))
    step_lengths(weight, optimizer, 4)
    assert optimizer.effective_lrs == pytest.approx([2e-2])  # lr / (1 - momentum) is held
    _, other = linear_run(named("sgd-momentum"), 1e-2, policy=Scripted(2, momentum=0.8))
    other.load_state_dict(optimizer.state_dict())
    assert other.effective_lrs == optimizer.effective_lrs


def two_groups(make: Any, **shared: Any) -> DCAO:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    decayed = {"params": [model[0].weight, model[2].weight], "weight_decay": 0.1, "lr": 1e-2}
    exempt = {"params": [model[0].bias, model[2].bias], "weight_decay": 0.0, "lr": 1e-3}
    return Run(model, DCAO(make([decayed, exempt]), every=1, **shared))


@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_weight_decay_moves_by_a_ratio_and_groups_that_are_exempt_stay_exempt(make):
    run = two_groups(make, policy=policies.WeightDecay(0.1, target=0.5))
    run.advance(5)
    decayed, exempt = run.optimizer.param_groups
    assert decayed["weight_decay"] != 0.1
    assert exempt["weight_decay"] == 0.0
    assert [decayed["lr"], exempt["lr"]] == [1e-2, 1e-3]


@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_the_lr_rule_keeps_the_ratio_between_groups_exactly(make):
    run = two_groups(make, policy=policies.LearningRate(0.02, settle=False))
    run.advance(20)
    first, second = run.optimizer.effective_lrs
    assert first != 1e-2
    assert second == pytest.approx(first / 10.0, rel=1e-12)


def test_the_lr_rule_alone_leaves_momentum_and_weight_decay():
    run = dcao_run(named("adamw-wd"), every=1).advance(6)
    group = run.optimizer.param_groups[0]
    assert group["betas"] == (0.9, 0.999)
    assert group["weight_decay"] == 0.05
    assert group["lr"] != 3e-3


def test_bounds_hold_for_every_hyperparameter():
    policy = policies.Compose(
        policies.LearningRate(1e-6, min_lr=2e-3),
        policies.Momentum(0.5, target=1e-6, min_momentum=0.85, anchor=0.0),
        policies.WeightDecay(0.5, target=1e-6, max_weight_decay=0.06, anchor=0.0),
    )
    run = dcao_run(named("adamw-wd"), every=1, policy=policy).advance(25)
    group = run.optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(2e-3)
    assert group["betas"][0] == pytest.approx(0.85, rel=0.06)
    assert group["betas"][0] >= 0.85
    assert group["weight_decay"] <= 0.06


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), -0.1])
def test_a_policy_that_decides_on_no_learning_rate_changes_none(lr):
    recorder = MemoryRecorder()
    weight, optimizer = linear_run(named("sgd-momentum"), 0.1, policy=Scripted(1, lr=lr), recorder=recorder)
    with pytest.warns(UserWarning, match=r"Scripted decides on lr is not carried out: it answered .* no learning rate"):
        step_lengths(weight, optimizer, 3)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert [record.decision.reason for record in recorder.records] == [
        "scripted",
        f"scripted; lr held: {lr:g} is no learning rate",
        "scripted",
    ]


class Answering(policies.Policy):
    """A policy that answers what it is told to, right or wrong."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def propose(self, observation: Observation, state: dict[str, Any]) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", WRONG_ANSWERS, ids=lambda a: type(a).__name__)
def test_a_policy_that_answers_something_else_is_told_what_to_answer(answer):
    weight, optimizer = linear_run(named("sgd-momentum"), 0.1, policy=Answering(answer))
    with pytest.raises(TypeError, match=r"Answering\.propose must return a dcao\.Decision and the next state, got"):
        step_lengths(weight, optimizer, 1)
