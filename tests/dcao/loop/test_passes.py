"""Passes that were made before ``step``: by a trainer that owns the loop, or by ``minimize`` through a wrapper."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcao import DCAO, MemoryRecorder, policies
from dcao.loop.passes import FollowedPass
from dcao.state.places import Cell

BATCHES = 12


def network() -> nn.Sequential:
    """With dropout, so that micro-batches that were evaluated with other random numbers would show."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def batch(index: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(index))
    return x, x.sum(dim=1, keepdim=True).sin()


class Run:
    """A network, its DCAO, and what was recorded."""

    def __init__(self, **options: Any) -> None:
        self.net, self.recorder = network(), MemoryRecorder()
        self.optimizer = DCAO(torch.optim.AdamW(self.net.parameters(), lr=1e-3), recorder=self.recorder, **options)

    def passes(self, x: Tensor, y: Tensor, share: float = 1.0) -> Tensor:
        loss = F.mse_loss(self.net(x), y) * share
        loss.backward()
        return loss

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.net.parameters()])


def by_closure(run: Run, accumulation: int, clip: float | None) -> None:
    for start in range(0, BATCHES, accumulation):
        parts = [batch(index) for index in range(start, start + accumulation)]

        def closure(parts=parts) -> Tensor:
            run.optimizer.zero_grad()
            losses = [run.passes(x, y, 1.0 / accumulation) for x, y in parts]
            if clip is not None:
                nn.utils.clip_grad_norm_(run.net.parameters(), clip)
            return torch.stack(losses).sum()

        run.optimizer.step(closure)


def by_trainer(run: Run, accumulation: int, clip: float | None) -> None:
    """Rebinds the variables that its functions use, as loops do."""
    for start in range(0, BATCHES, accumulation):
        run.optimizer.zero_grad()
        followed = FollowedPass(run.optimizer, reached=[run])
        x = y = torch.empty(0)

        def again() -> Tensor:
            return run.passes(x, y, 1.0 / accumulation)  # noqa: B023  # which is what loops do

        for index in range(start, start + accumulation):
            x, y = batch(index)
            followed.add(again, variables=[Cell(cell) for cell in again.__closure__])
            followed.note(again())
        if clip is not None:
            nn.utils.clip_grad_norm_(run.net.parameters(), clip)
        run.optimizer.step()


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_step_on_passes_that_were_followed_is_a_step_on_a_closure_that_makes_them(accumulation, clip):
    runs = []
    for train in (by_closure, by_trainer):
        run = Run()
        torch.manual_seed(1)
        train(run, accumulation, clip)
        runs.append(run)
    closure, trainer = runs
    assert torch.equal(trainer.weights(), closure.weights())
    assert [r.estimate for r in trainer.recorder.records] == [r.estimate for r in closure.recorder.records]
    assert len(closure.recorder.records) >= 1


def test_each_part_is_evaluated_with_the_random_numbers_that_it_had():
    """With other masks the gradient is another one, and the first probe would find the loss not to repeat."""
    run = Run()
    followed = FollowedPass(run.optimizer)
    for index in range(2):
        torch.manual_seed(index)
        x, y = batch(index)
        followed.add(lambda x=x, y=y: run.passes(x, y))
        followed.note(run.passes(x, y))
        torch.rand(5)  # as a loader draws
    run.optimizer.step()
    estimate = run.optimizer.last_estimate
    assert estimate.trust == 1.0
    assert estimate.reason == ""


def test_variables_that_were_rebound_since_are_what_they_were_after_a_probe():
    run, seen = Run(policy=policies.Fixed(), every=1), list[float]()
    x, y = batch(0)

    def again() -> Tensor:
        seen.append(float(x[0, 0]))
        return run.passes(x, y)

    followed = FollowedPass(run.optimizer)
    followed.add(again, variables=[Cell(cell) for cell in again.__closure__])
    followed.note(again())
    first, (x, y) = x, batch(1)
    second = x
    run.optimizer.step()
    assert run.optimizer.probe_cost >= 1.0
    assert set(seen) == {float(first[0, 0])}
    assert x is second


def test_probes_of_followed_passes_leave_the_run_alone():
    watched, bare = Run(policy=policies.Fixed(), every=1), Run(policy=policies.Fixed())
    for run in (watched, bare):
        torch.manual_seed(1)
        by_trainer(run, 3, 0.1)
    assert torch.equal(watched.weights(), bare.weights())
    assert len(watched.recorder.records) == 4


def test_a_pass_that_skips_its_backward_is_no_step_and_the_probe_waits():
    run = Run()
    followed = FollowedPass(run.optimizer)
    followed.add(lambda: None)
    followed.note(None)
    run.optimizer.step()
    assert run.recorder.records == []
    by_trainer(run, 1, None)
    assert run.recorder.records[0].step == 1


def test_a_pass_whose_step_is_not_taken_leaves_no_hooks_behind():
    run = Run()
    FollowedPass(run.optimizer).add(lambda: run.passes(*batch(0)))
    assert any(p._backward_hooks for p in run.net.parameters())
    run.optimizer.coming.forget()
    assert not any(p._backward_hooks for p in run.net.parameters())
    run.optimizer.minimize(lambda: F.mse_loss(run.net(batch(0)[0]), batch(0)[1]))
    assert run.recorder.records[0].estimate.reason == ""


class Imitation:
    """As trainers wrap optimizers: a subclass of their class without its constructor, which hands on attributes."""

    def __init__(self, optimizer: DCAO) -> None:
        self._optimizer = optimizer
        self.__class__ = type("Imitating", (Imitation, DCAO), {})

    def step(self, closure: Any = None) -> Any:
        return self._optimizer.step(lambda: None)  # Lightning's, for a step without a closure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)


def test_minimize_goes_through_a_wrapper_that_hands_on_attributes():
    runs = [Run(), Run()]
    optimizers = [runs[0].optimizer, Imitation(runs[1].optimizer)]
    for run, optimizer in zip(runs, optimizers, strict=True):
        torch.manual_seed(1)
        for index in range(BATCHES):
            x, y = batch(index)
            optimizer.minimize(lambda x=x, y=y, run=run: F.mse_loss(run.net(x), y), clip_norm=0.1)
    assert torch.equal(runs[0].weights(), runs[1].weights())
    assert [r.estimate for r in runs[0].recorder.records] == [r.estimate for r in runs[1].recorder.records]


def test_a_group_can_be_added_through_such_a_wrapper():
    run = Run()
    Imitation(run.optimizer).add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert len(run.optimizer.param_groups) == 2


def test_a_closure_of_a_wrapper_that_does_nothing_is_a_plain_step():
    run = Run()
    run.passes(*batch(0))
    with pytest.raises(ValueError, match=r"there is nothing to probe: call optimizer\.minimize"):
        Imitation(run.optimizer).step()


def test_a_copy_of_the_optimizer_has_made_no_pass():
    run = Run()
    FollowedPass(run.optimizer)
    assert not copy.deepcopy(run.optimizer).coming.is_known
