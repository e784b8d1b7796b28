"""The guard: a step on numbers that are not finite is skipped, counted, recorded and answered with a smaller lr."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from dcao import DCAO, Guard, MemoryRecorder, policies
from helpers.contract_cases import (
    BATCHES,
    DCAO_WAYS,
    FEW_CASES,
    NAMED_CASES,
    Run,
    assert_same_tensors,
    case_name,
    dcao_run,
    named,
    seed_everything,
    snapshot,
    watching,
)

POISONS: dict[str, Callable[[Tensor], Tensor]] = {
    "nan-loss": lambda loss: loss * float("nan"),
    "inf-loss": lambda loss: loss * float("inf"),
    "overflow": lambda loss: (loss * 1e30) ** 2,
    # A finite loss with gradients that are not: sqrt's at 0.
    "nan-gradient": lambda loss: loss + ((loss - loss) ** 2).sqrt(),
}


class Poisoned(Run):
    """A run whose loss is spoilt at chosen steps, or whose inputs are, which spoils BatchNorm's statistics too."""

    bad_steps: frozenset[int] = frozenset()
    poison: Callable[[Tensor], Tensor] | None = None

    def loss(self) -> Tensor:
        if self.num_done not in self.bad_steps:
            return super().loss()
        if self.poison is not None:
            return self.poison(super().loss())
        return self.model(torch.full((16, 6), float("nan"))).square().mean()


def poisoned(run: Run, *bad_steps: int, poison: str | None = None) -> Poisoned:
    spoilt = Poisoned(run.model, run.optimizer, run.way)
    spoilt.bad_steps, spoilt.poison = frozenset(bad_steps), POISONS[poison] if poison else None
    return spoilt


def is_finite(run: Run) -> bool:
    return all(bool(t.isfinite().all()) for t in run.model.state_dict().values())


HELD = policies.LearningRate(1.5, gamma_down=1.0, gamma_up=1.0)  # adapts, but to nothing: leaves the guard alone


@pytest.mark.parametrize("way", DCAO_WAYS)
@pytest.mark.parametrize("poison", POISONS)
def test_a_bad_step_is_skipped_counted_recorded_and_halves_the_lr(poison, way):
    recorder = MemoryRecorder()
    run = poisoned(dcao_run(named("adamw-wd"), way=way, policy=HELD, recorder=recorder), 3, poison=poison)
    run.advance(3)
    before = [p.detach().clone() for p in run.model.parameters()]
    run.advance(1)
    assert all(torch.equal(p, old) for p, old in zip(run.model.parameters(), before, strict=True))
    assert run.optimizer.effective_lrs == [1.5e-3]
    assert (run.optimizer.num_skipped, run.optimizer.num_steps) == (1, 4)
    skip = next(r for r in recorder.records if r.observation is None)
    assert skip.step == 3
    assert skip.decision.reason == "guard: loss or gradients are not finite; step skipped (1 in a row)"
    assert (skip.before.lr, skip.after.lr) == (3e-3, 1.5e-3)
    run.advance(3)
    assert is_finite(run)
    assert run.optimizer.num_skipped == 1


@pytest.mark.parametrize("way", ["minimize", "closure", "step"])
@pytest.mark.parametrize("case", NAMED_CASES, ids=case_name)
def test_parameters_and_batchnorm_stay_finite_after_a_batch_of_nans(case, way):
    run = dcao_run(case, way=way, policy=policies.Fixed(), guard=True) if way == "step" else dcao_run(case, way=way)
    # step() alone comes too late to see what BatchNorm was before the very first batch.
    run = poisoned(run, 1 if way == "step" else 0, 4, 5).advance(8)
    assert is_finite(run)
    assert run.optimizer.num_skipped == 3


def test_under_a_scheduler_the_guard_halves_what_trains_and_the_schedule_goes_on():
    run = poisoned(dcao_run(named("adamw-wd"), policy=HELD), 2)
    scheduler = lr_scheduler.ExponentialLR(run.optimizer, 0.5)
    run.advance(4, after=scheduler.step)
    assert scheduler.get_last_lr() == [pytest.approx(3e-3 / 16)]
    assert run.optimizer.effective_lrs == [pytest.approx(3e-3 / 32)]


def test_on_a_plateau_that_is_not_visible_yet_the_guard_looks_first():
    run = poisoned(dcao_run(named("adamw-wd"), policy=HELD), 0)
    scheduler = lr_scheduler.ReduceLROnPlateau(run.optimizer)
    run.advance(1)
    assert run.optimizer.param_groups[0]["lr"] == 3e-3
    assert run.optimizer.effective_lrs == [1.5e-3]
    assert scheduler.get_last_lr() == [3e-3]


@pytest.mark.parametrize("case", FEW_CASES, ids=case_name)
def test_three_in_a_row_go_back_to_the_snapshot(case):
    seed_everything()
    run = poisoned(dcao_run(case, policy=HELD, guard=Guard(snapshot_every=5)), 9, 10, 11).advance(9)
    of_step = run.optimizer.guard._snapshot.step  # before its update; the first of a loss not above the median
    assert of_step in (5, 6, 7, 8)
    seed_everything()
    twin = dcao_run(case, policy=HELD).advance(of_step)
    torch.manual_seed(0)
    run.advance(3)
    assert run.optimizer.guard.num_restored == 1
    for p, q in zip(run.model.parameters(), twin.model.parameters(), strict=True):
        assert torch.equal(p, q)
    for p, q in zip(run.optimizer.base.state.values(), twin.optimizer.base.state.values(), strict=True):
        assert_same_tensors(
            {k: torch.as_tensor(v) for k, v in p.items()}, {k: torch.as_tensor(v) for k, v in q.items()}
        )
    assert run.optimizer.effective_lrs == pytest.approx([case.lr / 8])
    run.advance(3)
    assert is_finite(run)


def test_a_snapshot_of_before_the_first_step_lets_the_optimizer_set_itself_up_again():
    run = poisoned(dcao_run(named("adamw-wd"), policy=HELD, guard=Guard(snapshot_every=100)), 1, 2, 3)
    initial = [p.detach().clone() for p in run.model.parameters()]
    run.advance(4)
    assert all(torch.equal(p, old) for p, old in zip(run.model.parameters(), initial, strict=True))
    assert not any(run.optimizer.base.state.get(p) for p in run.model.parameters())
    run.advance(3)
    assert is_finite(run)


def test_what_was_added_since_the_snapshot_stays_when_a_run_goes_back():
    run = poisoned(dcao_run(named("adamw-wd"), policy=HELD, guard=Guard(snapshot_every=100)), 3, 4, 5).advance(2)
    head = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    run.model.append(head)
    run.optimizer.add_param_group({"params": list(head.parameters())})
    run.advance(6)
    assert run.optimizer.guard.num_restored == 1
    assert is_finite(run)


@pytest.mark.parametrize("policy", [policies.Ceiling(), policies.LearningRate(1.5)], ids=["ceiling", "proposal"])
def test_a_first_step_that_is_skipped_does_not_put_off_the_first_probe(policy):
    recorder = MemoryRecorder()
    run = poisoned(dcao_run(named("adamw-wd"), policy=policy, every=10, recorder=recorder), 0, 1).advance(3)
    assert run.optimizer.num_skipped == 2
    probed = [record.step for record in recorder.records if record.observation is not None]
    assert probed == [2]  # the first step that trains: no update is made at an lr that nothing has looked at


def test_nothing_but_nans_does_not_drive_the_lr_to_zero():
    run = poisoned(dcao_run(named("adamw-wd"), policy=HELD), *range(50)).advance(50)
    assert run.optimizer.num_skipped == 50
    assert run.optimizer.effective_lrs == pytest.approx([3e-3 / 8])


def test_the_guard_is_off_under_fixed_and_can_be_switched_on():
    off = poisoned(dcao_run(named("sgd"), **watching()), 1).advance(2)
    assert not is_finite(off)
    on = poisoned(dcao_run(named("sgd"), **watching(guard=True)), 1).advance(2)
    assert is_finite(on)
    assert on.optimizer.effective_lrs == [0.05]  # fixed changes nothing, in a skip neither


def test_a_guarded_run_without_an_accident_is_the_unguarded_one():
    runs = []
    for guard in (False, True):
        seed_everything()
        runs.append(
            dcao_run(named("adamw-wd"), **watching(guard=Guard(snapshot_every=3) if guard else False)).advance(8)
        )
    assert_same_tensors(snapshot(runs[0])["tensors"], snapshot(runs[1])["tensors"])


def test_a_wild_lr_is_cut_before_it_does_damage():
    # SGD at lr 1e3 on a quadratic of curvature 2: a first step of 3e-3 times the weights is what it starts from.
    weight = nn.Parameter(torch.ones(3))
    recorder = MemoryRecorder()
    optimizer = DCAO(torch.optim.SGD([weight], lr=1e3), recorder=recorder)
    losses = [float(optimizer.minimize(lambda: weight.square().sum())) for _ in range(30)]
    assert recorder.records[0].after.lr == 1.5e-3  # 3e-3 ||w|| / ||g||, and that is a number that is kept
    assert losses[1] < losses[0]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    "loss", [float("nan"), np.float32("nan"), torch.tensor(float("nan"))], ids=["float", "numpy", "tensor"]
)
def test_a_closure_may_return_a_loss_of_any_kind(loss):
    weight = nn.Parameter(torch.ones(2))
    optimizer = DCAO(torch.optim.SGD([weight], lr=0.1))

    def closure():
        weight.grad = torch.ones(2)
        return loss

    optimizer.step(closure)
    assert optimizer.num_skipped == 1
    assert weight.tolist() == [1.0, 1.0]


class Outsized(Run):
    """A run whose inputs are some times too large at chosen steps."""

    bad_steps: frozenset[int] = frozenset()
    factor = 1e4

    def loss(self) -> Tensor:
        if self.num_done not in self.bad_steps:
            return super().loss()
        inputs, targets = BATCHES[self.num_done % len(BATCHES)]
        return F.cross_entropy(self.model(self.factor * inputs), targets)


def outsized(run: Run, *bad_steps: int, factor: float = 1e4) -> Outsized:
    spoilt = Outsized(run.model, run.optimizer, run.way)
    spoilt.bad_steps, spoilt.factor = frozenset(bad_steps), factor
    return spoilt


def plain_run(**options) -> Run:
    """A model without BatchNorm, which would hide the size of its inputs."""
    seed_everything()
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))  # linear: a large input is a large gradient
    optimizer = DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3), policy=HELD, every=50, **options)
    return Run(model, optimizer, "minimize")


def test_a_gradient_far_longer_than_any_before_is_skipped_and_the_lr_stays():
    recorder = MemoryRecorder()
    run = outsized(plain_run(recorder=recorder), 20).advance(20)
    before = snapshot(run)["tensors"]
    run.advance(1)
    after = snapshot(run)["tensors"]
    assert_same_tensors(  # parameters and Adam's second moment, which would take thousands of steps to forget it
        {name: t for name, t in after.items() if not name.endswith(".grad")},
        {name: t for name, t in before.items() if not name.endswith(".grad")},
    )
    assert run.optimizer.num_skipped == 1
    assert run.optimizer.effective_lrs == [1e-3]
    (skip,) = [record for record in recorder.records if record.observation is None]
    assert re.fullmatch(
        r"guard: gradient of length \S+, over 100 times the longest of the last 20; step skipped \(1 in a row\)",
        skip.decision.reason,
    )


@pytest.mark.parametrize(("factor", "num_skipped"), [(1e4, 1), (3.0, 0)])
def test_what_is_only_somewhat_longer_is_trained_on(factor, num_skipped):
    assert outsized(plain_run(), 20, factor=factor).advance(25).optimizer.num_skipped == num_skipped


def test_the_first_few_steps_are_not_judged_and_the_fourth_in_a_row_is_the_new_measure():
    assert outsized(plain_run(), 3).advance(5).optimizer.num_skipped == 0
    run = outsized(plain_run(), *range(20, 30)).advance(30)
    assert run.optimizer.num_skipped == 3  # the training has changed


def test_a_checkpoint_keeps_what_the_guard_compares_with():
    first = plain_run().advance(20)
    second = plain_run()
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert second.optimizer.guard._norms == first.optimizer.guard._norms
    assert len(second.optimizer.guard._norms) == 20


@pytest.mark.parametrize("step", [12, 17])
def test_batchnorm_statistics_are_put_back_after_a_batch_whose_size_it_hides_from_the_gradient(step):
    seed_everything()
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    run = outsized(
        Run(model, DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3), policy=HELD, every=50), "minimize"), step
    )
    run.advance(step)
    variance = float(model[1].running_var.max())
    run.advance(1)
    assert float(model[1].running_var.max()) > 1e5 * variance
    run.advance(10)  # until the next copy
    assert float(model[1].running_var.max()) < 10.0 * variance


def test_a_run_that_blows_up_goes_back_and_goes_on_with_a_smaller_lr():
    # Full-batch descent on curvature 2 with an lr of three times the edge: the loss grows 25 times a step.
    weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
    recorder = MemoryRecorder()
    rule = policies.LearningRate(1.5, gamma_up=1.0, gamma_down=0.5, settle=False)
    optimizer = DCAO(
        torch.optim.SGD([weight], lr=1e-2), policy=rule, every=1000, recorder=recorder, guard=Guard(snapshot_every=5)
    )
    losses = []
    for step in range(60):
        if step == 30:
            for group in optimizer.param_groups:
                group["lr"] = 3.0
        losses.append(float(optimizer.minimize(lambda: weight.square().sum())))
    backs = [r for r in recorder.records if r.observation is None and "back to the snapshot" in r.decision.reason]
    assert len(backs) >= 1
    assert re.search(
        r"guard: loss \S+, far over the first one and the last \d+; step skipped", backs[0].decision.reason
    )
    told = next(r for r in recorder.records if r.observation is not None and r.observation.s == math.inf)
    assert told.step == backs[0].step
    assert told.decision.reason.startswith("s inf against target 1.5")
    assert losses[-1] < losses[29]
    assert optimizer.effective_lrs[0] < 1.0  # the edge


def test_a_snapshot_is_not_taken_where_the_loss_is_high():
    run = dcao_run(named("sgd"), policy=HELD, guard=Guard(snapshot_every=1)).advance(30)
    losses, guard = list(run.optimizer.guard._losses), run.optimizer.guard
    assert losses[guard._snapshot.step] <= statistics.median(losses[: guard._snapshot.step])


def test_under_data_parallel_the_guard_looks_at_gradients_alone(monkeypatch):
    # Each rank has a loss of its own; judged by it, one rank would skip a step that the others take.
    run = plain_run().advance(10)
    guard = run.optimizer.guard
    high = torch.tensor(1e6)
    assert guard.check(high, 10) is not None
    modules, _ = guard.model.look()
    monkeypatch.setattr(guard.model, "look", lambda: (modules, object()))
    losses = list(guard._losses)
    assert guard.check(high, 11) is None
    assert list(guard._losses) == losses
