"""Groups and parameters that change in mid-run: what is added trains at DCAO's scale, what is gone is gone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.optim import lr_scheduler

from dcao import DCAO, Guard, policies
from helpers.contract_cases import adapting, dcao_run, named

BASES = {
    "adamw": optim.AdamW,
    "adamw-tensor-lr": lambda params, lr: optim.AdamW(params, lr=torch.tensor(lr), foreach=False),
    "adam-fused": lambda params, lr: optim.Adam(params, lr=lr, fused=True),
    "sgd": lambda params, lr: optim.SGD(params, lr=lr, momentum=0.9),
}


class TwoParts:
    """A head that trains from the start, and a backbone that is thawed later."""

    def __init__(self, base: Any, lr: float, **settings: Any) -> None:
        torch.manual_seed(0)
        self.x, self.backbone, self.head = torch.randn(64, 6), nn.Linear(6, 8), nn.Linear(8, 3)
        self.y = self.x[:, :3].argmax(1)
        self.optimizer = DCAO(base(self.head.parameters(), lr=lr), **{"every": 2, **settings})

    def train(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.optimizer.minimize(lambda: F.cross_entropy(self.head(self.backbone(self.x).tanh()), self.y))

    def thaw(self, *, via: str = "wrapper", **settings: Any) -> list[float]:
        """Add the backbone; what the two groups train at then."""
        optimizer = self.optimizer if via == "wrapper" else self.optimizer.base
        optimizer.add_param_group({"params": list(self.backbone.parameters()), **settings})
        return self.optimizer.effective_lrs


@pytest.mark.parametrize("via", ["wrapper", "base"])
@pytest.mark.parametrize("lr", [1e-6, 1e-3, 10.0])
@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_groups_that_were_given_one_lr_train_at_one_lr(base, lr, via):
    run = TwoParts(base, lr)
    run.train(12)
    trains, _ = run.optimizer.effective_lrs, run.thaw(via=via)
    assert trains != [pytest.approx(lr, rel=1e-3)]  # DCAO has moved it
    assert run.optimizer.effective_lrs == [*trains, *trains]
    run.train(12)
    head, backbone = run.optimizer.effective_lrs
    assert head == backbone


@pytest.mark.parametrize("ratio", [0.1, 3.0])
def test_a_ratio_that_was_given_is_kept(ratio):
    run = TwoParts(optim.AdamW, 1e-3)
    run.train(12)
    head, backbone = run.thaw(lr=1e-3 * ratio)
    assert backbone == pytest.approx(ratio * head, rel=1e-12)
    run.train(12)
    head, backbone = run.optimizer.effective_lrs
    assert backbone == pytest.approx(ratio * head, rel=1e-9)  # a rounding a write


def test_an_lr_that_was_copied_from_another_group_stays():
    run = TwoParts(optim.AdamW, 1e-3)
    run.train(12)
    (trains,) = run.optimizer.effective_lrs
    assert run.thaw(lr=run.optimizer.param_groups[0]["lr"]) == [trains, trains]


def test_groups_of_several_lrs_find_their_like():
    run = TwoParts(lambda params, lr: optim.SGD([{"params": [p]} for p in params], lr=lr), 0.1)
    run.optimizer.param_groups[1]["lr"] = 0.01
    run.optimizer = DCAO(run.optimizer.base, every=2)
    run.train(8)
    weight, bias = run.optimizer.effective_lrs
    run.optimizer.add_param_group({"params": [run.backbone.bias], "lr": 0.01})
    run.optimizer.add_param_group({"params": [run.backbone.weight]})
    assert run.optimizer.effective_lrs == [weight, bias, bias, weight]


def test_a_group_that_is_added_after_a_checkpoint_trains_at_one_lr_with_the_others():
    first = TwoParts(optim.AdamW, 1e-3)
    first.train(12)
    second = TwoParts(optim.AdamW, 1e-6)  # another lr was given to the same run
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    head, backbone = second.thaw()
    assert head == backbone == first.optimizer.effective_lrs[0]


def test_under_a_scheduler_the_scale_applies_once():
    run = TwoParts(optim.AdamW, 10.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(run.optimizer)
    run.train(12)
    head, backbone = run.thaw()
    assert head == backbone < 1.0  # what DCAO makes of it
    assert [group["lr"] for group in run.optimizer.param_groups] == [10.0, 10.0]  # nominal, as given
    assert scheduler.get_last_lr() == [10.0]


def test_a_compensated_lr_is_no_scale():
    """SGD's lr falls while momentum rises; a new group has the momentum that was given."""
    run = TwoParts(BASES["sgd"], 0.05, policy=policies.Momentum(0.5, target=10.0, anchor=0.0))
    run.train(12)
    assert run.optimizer.param_groups[0]["lr"] != 0.05
    assert run.thaw()[1] == pytest.approx(0.05)
    assert run.optimizer.param_groups[1]["momentum"] == 0.9


def test_a_tensor_lr_that_groups_share_is_not_scaled_twice():
    lr = torch.tensor(1e-3)
    run = TwoParts(lambda params, lr: optim.AdamW(params, lr=lr, foreach=False), lr)
    run.train(12)
    (head,) = run.optimizer.effective_lrs
    assert run.thaw() == [head, head]
    third = nn.Parameter(torch.zeros(2))
    run.optimizer.add_param_group({"params": [third], "lr": torch.tensor(1e-3)})
    assert run.optimizer.effective_lrs == [head, head, head]
    run.train(4)
    assert len(set(run.optimizer.effective_lrs)) == 1


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_group_that_is_gone_takes_its_lr_with_it(scheduled):
    run = TwoParts(optim.AdamW, 1e-3)
    scheduler = lr_scheduler.ReduceLROnPlateau(run.optimizer) if scheduled else None
    run.train(6)
    run.thaw(lr=1e-4)
    run.train(4)
    _, backbone = run.optimizer.effective_lrs
    del run.optimizer.param_groups[0]
    assert run.optimizer.effective_lrs == [backbone]
    assert (run.optimizer.controller.shape is not None) is (scheduler is not None)  # nobody has written an lr
    run.train(4)
    assert run.optimizer.last_estimate.s is not None


def test_a_list_of_groups_that_was_assigned_is_the_bases():
    run = TwoParts(optim.AdamW, 1e-3)
    run.thaw()
    run.train(6)
    backwards = run.optimizer.param_groups[::-1]
    run.optimizer.param_groups = backwards
    assert run.optimizer.base.param_groups is run.optimizer.param_groups is backwards
    run.train(4)
    assert run.optimizer.controller.shape is None
    assert len(run.optimizer.state_dict()["dcao"]["controller"]["written"]) == 2


@pytest.mark.parametrize("via", ["wrapper", "base"])
def test_a_state_that_was_assigned_is_the_bases(via):
    """As FSDP does when it has gathered a state."""
    run = dcao_run(named("adamw-wd"), **adapting()).advance(4)
    state = type(run.optimizer.state)(dict, run.optimizer.state)
    (run.optimizer if via == "wrapper" else run.optimizer.base).state = state
    assert run.optimizer.state is run.optimizer.base.state is state
    run.advance(3)
    assert run.optimizer.state is run.optimizer.base.state is state
    assert {int(each["step"]) for each in state.values()} == {7}


class Splats(nn.Module):
    """Points whose number changes while they train, as in Gaussian splatting; their state goes with them."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.target = torch.randn(60, 3, generator=generator)
        self.points = nn.Parameter(torch.randn(60, 3, generator=generator))
        self.opacity = nn.Parameter(torch.ones(60, 1))
        self.register_buffer("seen", torch.zeros(()))

    def loss(self) -> torch.Tensor:
        self.seen += 1
        n = len(self.points)
        return (self.opacity * (self.points - self.target[torch.arange(n) % 60]) ** 2).mean()

    def take(self, optimizer: DCAO, rows: torch.Tensor) -> None:
        for group in optimizer.param_groups:
            old = group["params"][0]
            state = optimizer.state.pop(old)
            new = nn.Parameter(old.detach()[rows].clone())
            optimizer.state[new] = {k: v[rows].clone() if v.ndim else v for k, v in state.items()}
            group["params"] = [new] if group["name"] == "points" else group["params"]
            group["params"][0] = new  # one group gets a new list, the other a new entry
            setattr(self, group["name"], new)


@pytest.mark.parametrize("measure", ["load", "hessian"])
def test_parameters_may_be_replaced_many_times(measure):
    model = Splats()
    groups = [{"params": [getattr(model, name)], "name": name} for name in ("points", "opacity")]
    optimizer = DCAO(optim.Adam(groups, lr=1e-3), measure=measure, every=5)
    generator = torch.Generator().manual_seed(5)
    losses = []
    for step in range(90):
        losses.append(float(optimizer.minimize(model.loss)))
        if step % 9 == 8:  # prune and densify in turn, once to the same number
            n = len(model.points)
            model.take(optimizer, torch.randint(n, (n + (7, -7, 0)[step // 9 % 3],), generator=generator))
        assert model in optimizer.loop.probe.model.look()[0]
        assert len(optimizer.state) == 2
    assert math.isfinite(losses[-1])
    assert losses[-1] < losses[0]
    assert optimizer.last_estimate.s is not None
    assert optimizer.num_skipped == 0
    assert int(model.seen) == 90
    assert optimizer.state_dict()["state"].keys() == {0, 1}


def test_the_model_of_a_replaced_parameter_is_found():
    """The replaced one sits in another module, whose BatchNorm a probe must not move."""
    torch.manual_seed(0)
    first, second = (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2))
    optimizer = DCAO(optim.SGD([first[0].weight], lr=0.1), every=1)
    x = torch.randn(16, 4)
    optimizer.minimize(lambda: first(x).square().sum() + first[0].weight.square().sum())
    optimizer.param_groups[0]["params"][0] = second[0].weight
    for count in range(1, 4):
        optimizer.minimize(lambda: second(x).square().sum() + second[0].weight.square().sum())
        assert int(second[1].num_batches_tracked) == count


def test_a_third_group_finds_the_terms_that_a_copied_lr_has_hidden():
    run = TwoParts(optim.AdamW, 1e-3)
    run.train(12)
    (head,) = run.optimizer.effective_lrs
    run.thaw(lr=head)
    run.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": 1e-4})
    assert run.optimizer.effective_lrs == [head, head, pytest.approx(0.1 * head, rel=1e-12)]


def test_the_gradient_of_a_parameter_that_was_replaced_is_not_the_new_ones():
    torch.manual_seed(0)
    weights, x = [nn.Parameter(torch.randn(6)) for _ in range(2)], torch.randn(20, 6)
    optimizer = DCAO(optim.SGD([weights[0]], lr=0.1), every=1)

    def minimize(weight: nn.Parameter) -> float:
        optimizer.minimize(lambda: (x @ weight - 1.0).square().mean())
        return optimizer.last_estimate.load_signal

    assert minimize(weights[0]) == 0.0  # there is no gradient of a step before
    assert minimize(weights[0]) != 0.0
    optimizer.param_groups[0]["params"][0] = weights[1]
    assert minimize(weights[1]) == 0.0
    assert minimize(weights[1]) != 0.0


def test_a_run_of_replaced_parameters_goes_back_without_the_dead_ones():
    model = Splats()
    groups = [{"params": [getattr(model, name)], "name": name} for name in ("points", "opacity")]
    optimizer = DCAO(optim.Adam(groups, lr=1e-3), guard=Guard(snapshot_every=5))
    for step in range(40):
        optimizer.minimize(model.loss)
        if step == 32:
            model.take(optimizer, torch.arange(40))
    points = model.points.detach().clone()
    for _ in range(4):
        optimizer.minimize(lambda: model.loss() * float("nan"))
    assert optimizer.num_skipped >= 3
    assert set(map(id, optimizer.state)) == {id(model.points), id(model.opacity)}
    assert torch.isfinite(model.points).all()
    assert model.points.shape == points.shape
    assert optimizer.state_dict()["state"].keys() == {0, 1}
    optimizer.minimize(model.loss)
