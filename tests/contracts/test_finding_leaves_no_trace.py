"""After find_lr everything is bit for bit what it was, whatever the loss does, and training goes on as without it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim

from dcao import find_lr, is_probing
from helpers.contract_cases import (
    BATCHES,
    DEVICE,
    NAMED_CASES,
    assert_same,
    assert_same_run,
    bare_run,
    case_name,
    named,
    seed_everything,
    snapshot,
)
from helpers.counting import Count

pytestmark = pytest.mark.filterwarnings("ignore:find_lr found no lr")
FEW = 12  # steps of the rise: the weights move, and the test is quick


def loss_of(model):
    """It draws from all random streams that a loss may share with the training."""

    def loss_fn(batch):
        noise = torch.randn(()) + random.random() + float(np.random.rand())  # noqa: NPY002
        return F.cross_entropy(model(batch[0]), batch[1]) * (1.0 + 0.01 * float(noise))

    return loss_fn


def half_run(case):
    """Some way into training, with gradients in place."""
    seed_everything()
    run = bare_run(case).advance(3)
    run.backward()
    return run


@pytest.mark.parametrize("case", NAMED_CASES, ids=case_name)
def test_a_half_run_optimizer_goes_on_as_if_nothing_had_been(case):
    run, twin = half_run(case), half_run(case)
    seed_everything(5)
    held, state = [p.grad for p in run.model.parameters()], run.optimizer.state
    before, attributes = snapshot(run), set(vars(run.optimizer))
    versions = [p._version for p in run.model.parameters()]
    find_lr(run.optimizer, BATCHES, loss_of(run.model), num_steps=FEW)
    assert_same(snapshot(run), before)
    assert run.optimizer.state is state
    assert set(vars(run.optimizer)) == attributes
    assert [p._version for p in run.model.parameters()] == versions
    assert all(p.grad is grad for p, grad in zip(run.model.parameters(), held, strict=True))
    seed_everything(5)
    run.advance(3)
    seed_everything(5)
    twin.advance(3)
    assert_same_run(run, twin)


def test_an_optimizer_that_has_not_stepped_has_no_state_afterwards():
    run = bare_run(named("adamw-wd"))
    find_lr(run.optimizer, BATCHES, loss_of(run.model), num_steps=FEW)
    assert not run.optimizer.state
    assert run.optimizer.param_groups[0]["lr"] == named("adamw-wd").lr


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
        lambda optimizer: optim.lr_scheduler.CosineAnnealingLR(optimizer, 20),
        lambda optimizer: optim.lr_scheduler.LinearLR(optimizer, 0.01),
    ],
    ids=["plateau", "cosine", "warmup"],
)
def test_a_scheduler_built_on_the_optimizer_notices_nothing(make):
    run = half_run(named("adamw-wd"))
    scheduler = make(run.optimizer)
    groups = [
        {name: value for name, value in group.items() if name != "params"} for group in run.optimizer.param_groups
    ]
    before = {name: value for name, value in scheduler.state_dict().items() if "lambda" not in name}
    find_lr(run.optimizer, BATCHES, loss_of(run.model), num_steps=FEW)
    after = [{name: value for name, value in group.items() if name != "params"} for group in run.optimizer.param_groups]
    assert after == groups
    assert {name: value for name, value in scheduler.state_dict().items() if "lambda" not in name} == before


def test_it_finds_the_same_twice():
    run = half_run(named("adamw-wd"))
    first, second = (find_lr(run.optimizer, BATCHES, loss_of(run.model), num_steps=FEW) for _ in range(2))
    assert first.curve == second.curve


def test_a_loss_that_keeps_state_has_it_as_before():
    run = half_run(named("sgd-momentum"))
    seen, hidden = [], nn.Parameter(torch.zeros(3, device=DEVICE), requires_grad=False)
    teacher = nn.Linear(6, 3).to(DEVICE)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}

    def loss_fn(batch):
        seen.append(len(seen))
        hidden.add_(1.0)
        with torch.no_grad():
            teacher.weight.mul_(0.9)
        return F.cross_entropy(run.model(batch[0]) + hidden, batch[1])

    find_lr(run.optimizer, BATCHES, loss_fn, num_steps=FEW)
    assert seen == []
    assert torch.equal(hidden, torch.zeros_like(hidden))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_loss_that_fails_midway_leaves_no_trace_either():
    run = half_run(named("adamw-wd"))
    count = Count()

    def loss_fn(batch):
        if count.add() >= 20:  # in a probe, where it is a reason, and then in the step
            raise RuntimeError("the loss gave up")
        return loss_of(run.model)(batch)

    seed_everything(5)
    before = snapshot(run)
    with pytest.raises(RuntimeError, match="the loss gave up"):
        find_lr(run.optimizer, BATCHES, loss_fn)
    assert_same(snapshot(run), before)


def test_a_loader_that_fails_midway_leaves_no_trace_either():
    run = half_run(named("adamw-wd"))

    def loader():
        yield from BATCHES[:6]
        raise RuntimeError("a worker died")

    seed_everything(5)
    before = snapshot(run)
    with pytest.raises(RuntimeError, match="a worker died"):
        find_lr(run.optimizer, loader(), loss_of(run.model))
    assert_same(snapshot(run), before)


def test_a_loader_that_shuffles_gives_the_order_that_it_would_have_given():
    run = half_run(named("adamw-wd"))
    data = torch.utils.data.TensorDataset(*(torch.cat(part) for part in zip(*BATCHES, strict=True)))
    loader, twin = (
        torch.utils.data.DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    find_lr(run.optimizer, loader, loss_of(run.model), num_steps=FEW)
    assert all(torch.equal(left[0], right[0]) for left, right in zip(loader, twin, strict=True))


def test_code_that_asks_is_told_that_it_is_no_training():
    run = half_run(named("sgd"))
    answers = Count()

    def loss_fn(batch):
        if not is_probing():
            answers.add()
        return loss_of(run.model)(batch)

    find_lr(run.optimizer, BATCHES, loss_fn, num_steps=FEW)
    assert int(answers) == 0
