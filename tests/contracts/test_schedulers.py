"""A learning-rate scheduler keeps its meaning: it owns the nominal lr, and what trains is a multiple of that."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.optim import Optimizer, lr_scheduler

from dcao import DCAO, policies
from helpers.contract_cases import (
    DEVICE,
    FEW_CASES,
    NAMED_CASES,
    Run,
    adapting,
    assert_same_run,
    bare_run,
    case_name,
    dcao_run,
    named,
    options,
    seed_everything,
    watching,
)

NUM_STEPS = 14


@dataclass(frozen=True)
class SchedulerCase:
    name: str
    make: Callable[[Optimizer], Any]
    needs_metric: bool = False


def warmup_then_cosine(optimizer: Optimizer) -> lr_scheduler.SequentialLR:
    warmup = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=5)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=NUM_STEPS - 5)
    return lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[5])


def one_cycle(optimizer: Optimizer) -> lr_scheduler.OneCycleLR:
    largest = 2.0 * float(optimizer.param_groups[0]["lr"])
    cycles = "momentum" in optimizer.param_groups[0] or "betas" in optimizer.param_groups[0]
    return lr_scheduler.OneCycleLR(optimizer, max_lr=largest, total_steps=NUM_STEPS + 1, cycle_momentum=cycles)


SCHEDULER_CASES = [
    SchedulerCase("lambda", lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step)),
    SchedulerCase("warmup-from-0", lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 6))),
    SchedulerCase("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=NUM_STEPS)),
    SchedulerCase("one-cycle", one_cycle),
    SchedulerCase("plateau", lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=2), needs_metric=True),
    SchedulerCase("sequential", warmup_then_cosine),
]


class Course:
    """Builds a scheduler on an optimizer and writes down what it says and what really trains, step by step."""

    def __init__(self, case: SchedulerCase, run: Run, *, on_base: bool = False) -> None:
        self.base = run.optimizer.base if isinstance(run.optimizer, DCAO) else run.optimizer
        self.run, self.case = run, case
        self.scheduler = case.make(self.base if on_base else run.optimizer)
        self.nominal: list[float] = []
        self.shown: list[float] = []
        self.trained: list[float] = []
        self.momenta: list[float] = []
        self.scales: list[float] = []
        self.base.register_step_pre_hook(lambda base, args, kwargs: self._note(base))

    def advance(self, num_steps: int) -> Course:
        self.run.advance(num_steps, after=self._schedule)
        return self

    def _note(self, base: Optimizer) -> None:
        group = base.param_groups[0]
        self.trained.append(float(group["lr"]))
        self.momenta.append(group["betas"][0] if "betas" in group else group.get("momentum"))
        if isinstance(self.run.optimizer, DCAO) and (shape := self.run.optimizer.controller.shape) is not None:
            self.scales.append(shape.levels[0] / shape.tops[0])

    def _schedule(self) -> None:
        # A metric that does not depend on the run: better for 6 steps, then a plateau.
        metric = (float(max(1.0, 6.0 - self.run.num_done)),) if self.case.needs_metric else ()
        self.scheduler.step(*metric)
        self.nominal.append(float(self.scheduler.get_last_lr()[0]))
        self.shown.append(float(self.run.optimizer.param_groups[0]["lr"]))


def course(case: SchedulerCase, run: Run, *, on_base: bool = False) -> Course:
    seed_everything()
    return Course(case, run, on_base=on_base).advance(NUM_STEPS)


BELOW = {"never_above_schedule": True}


def assert_scaled(scaled: Course, bare: Course) -> None:
    assert scaled.nominal == bare.nominal
    assert scaled.shown == bare.shown
    assert scaled.momenta == bare.momenta  # OneCycleLR's, which nobody else touches
    for trained, nominal, scale in zip(scaled.trained, bare.trained, scaled.scales, strict=True):
        assert trained == pytest.approx(nominal * scale, rel=1e-6)
    assert min(scaled.scales) < 0.95  # it did step in


@pytest.mark.parametrize("on_base", [False, True], ids=["on-wrapper", "on-base"])
@pytest.mark.parametrize("scheduler", SCHEDULER_CASES, ids=case_name)
@pytest.mark.parametrize("case", FEW_CASES, ids=case_name)
def test_the_scheduler_follows_its_course_and_dcao_scales_it(case, scheduler, on_base):
    scaled = course(scheduler, dcao_run(case, **adapting(target=0.002)), on_base=on_base)
    assert_scaled(scaled, course(scheduler, bare_run(case)))


@pytest.mark.parametrize("scheduler", SCHEDULER_CASES, ids=case_name)
@pytest.mark.parametrize("case", FEW_CASES, ids=case_name)
def test_told_so_dcao_never_trains_above_the_scheduled_lr(case, scheduler):
    below = course(scheduler, dcao_run(case, **adapting(target=0.01, **BELOW)))
    assert_scaled(below, course(scheduler, bare_run(case)))
    assert max(below.scales) <= 1.0


@pytest.mark.parametrize("scheduler", SCHEDULER_CASES[3:5], ids=case_name)
@pytest.mark.parametrize("case", NAMED_CASES, ids=case_name)
def test_every_optimizer_is_scaled_under_a_cycle_and_on_a_plateau(case, scheduler):
    scaled = course(scheduler, dcao_run(case, **adapting(target=0.002, **BELOW)))
    assert_scaled(scaled, course(scheduler, bare_run(case)))
    assert max(scaled.scales) <= 1.0


@pytest.mark.parametrize("scheduler", SCHEDULER_CASES, ids=case_name)
@pytest.mark.parametrize("case", FEW_CASES, ids=case_name)
def test_under_fixed_a_scheduled_run_is_the_bare_one(case, scheduler):
    bare, watched = course(scheduler, bare_run(case)), course(scheduler, dcao_run(case, **watching()))
    assert watched.trained == bare.trained
    assert watched.nominal == bare.nominal
    assert_same_run(watched.run, bare.run)


@pytest.mark.parametrize("scheduler", SCHEDULER_CASES, ids=case_name)
def test_a_target_far_above_trains_at_the_scheduled_lr_and_never_over_it_if_told_so(scheduler):
    case = named("adamw-wd")
    bare = course(scheduler, bare_run(case))
    below = course(scheduler, dcao_run(case, **adapting(target=1e6, **BELOW)))
    assert below.trained == bare.trained


def test_a_target_far_above_leads_above_the_scheduled_lr():
    scaled = course(SCHEDULER_CASES[0], dcao_run(named("adamw-wd"), **adapting(target=1e6)))
    assert scaled.scales[-1] > 2.0
    assert scaled.nominal == course(SCHEDULER_CASES[0], bare_run(named("adamw-wd"))).nominal


LEAVING_A_MARK = [case for case in SCHEDULER_CASES if case.name != "plateau"]


@pytest.mark.parametrize("scheduler", LEAVING_A_MARK, ids=case_name)
@pytest.mark.parametrize("on_base", [False, True], ids=["on-wrapper", "on-base"])
def test_a_scheduler_built_mid_run_starts_from_the_lr_that_trains_then(scheduler, on_base):
    case = named("adamw-wd")
    run = dcao_run(case, **adapting(target=1e6, settle=False, **BELOW)).advance(5)
    lr = float(run.optimizer.param_groups[0]["lr"])
    assert lr > 1.2 * case.lr
    late = Course(scheduler, run, on_base=on_base).advance(NUM_STEPS - 5)
    alone = bare_run(case, lr)
    alone.num_done = 5
    expected = Course(scheduler, alone).advance(NUM_STEPS - 5)
    assert all(lr <= most for lr, most in zip(late.trained, expected.trained, strict=True))
    assert late.nominal == expected.nominal


def test_a_plateau_scheduler_built_mid_run_is_seen_at_its_first_cut_which_is_of_the_lr_that_trains():
    run = dcao_run(named("adamw-wd"), **adapting(target=1e6, settle=False, **BELOW)).advance(5)
    late = Course(SCHEDULER_CASES[4], run).advance(NUM_STEPS - 5)
    cut = next(i for i in range(1, len(late.nominal)) if late.nominal[i] < late.nominal[i - 1])
    assert late.nominal[cut] == pytest.approx(0.5 * late.trained[cut])
    assert late.trained[cut + 1 :] == late.nominal[cut:-1]  # the scale is 1 from there on: nominal is what trains


def test_a_warmup_from_0_takes_no_step_first_and_keeps_its_nominal_course():
    warmup = SCHEDULER_CASES[1]
    scaled = course(warmup, dcao_run(named("sgd-momentum"), **adapting()))
    assert scaled.trained[0] == 0.0
    assert scaled.nominal[:6] == pytest.approx([0.05 * step / 6 for step in range(1, 7)])


def test_dcao_wrapped_around_a_scheduled_optimizer_follows_from_the_first_step():
    case = named("adamw-wd")
    run = bare_run(case)
    scheduler = lr_scheduler.CosineAnnealingLR(run.optimizer, T_max=10)
    run.optimizer, run.way = DCAO(run.optimizer, **options(**adapting(target=1e6, **BELOW))), "minimize"
    run.advance(5, after=scheduler.step)
    alone = bare_run(case)
    expected = lr_scheduler.CosineAnnealingLR(alone.optimizer, T_max=10)
    alone.advance(5, after=expected.step)
    assert scheduler.get_last_lr() == expected.get_last_lr()
    assert run.optimizer.effective_lrs == expected.get_last_lr()


def test_an_lr_written_by_hand_is_the_nominal_lr_from_then_on():
    run = dcao_run(named("adamw-wd"), **adapting(target=1e6, settle=False, **BELOW)).advance(4)
    for group in run.optimizer.param_groups:
        group["lr"] = 5e-4
    assert run.advance(4).optimizer.effective_lrs == [5e-4]


@pytest.mark.parametrize("case", NAMED_CASES, ids=case_name)
def test_an_lr_of_dcaos_own_is_not_taken_for_a_schedulers(case):
    run = dcao_run(case, **adapting()).advance(6)
    assert run.optimizer.controller.shape is None  # a tensor lr is rounded to its dtype when written
    assert run.optimizer.effective_lrs == [float(group["lr"]) for group in run.optimizer.param_groups]
    assert run.optimizer.effective_lrs != pytest.approx([case.lr])


def test_the_momentum_rule_leaves_a_cycled_momentum_alone():
    cycle = SCHEDULER_CASES[3]
    policy = policies.Compose(policies.LearningRate(0.1), policies.Momentum(0.1, target=0.1))
    for case in (named("sgd-momentum"), named("adamw-wd")):
        with pytest.warns(UserWarning, match="decides on momentum is not carried out: somebody else sets it"):
            momenta = course(cycle, dcao_run(case, **adapting(policy=policy))).momenta
        assert momenta == course(cycle, bare_run(case)).momenta


def test_a_scheduler_does_not_complain_about_the_order_of_steps():
    run = dcao_run(named("sgd"))
    scheduler = lr_scheduler.StepLR(run.optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.advance(2, after=scheduler.step)


def test_lr_ratios_between_groups_are_kept():
    for scheduled in (False, True):
        model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).to(DEVICE)
        groups = [{"params": model[0].parameters(), "lr": 1e-3}, {"params": model[2].parameters(), "lr": 1e-4}]
        run = Run(model, DCAO(torch.optim.AdamW(groups), **options(**adapting(target=1e-3, settle=False))))
        scheduler = lr_scheduler.LambdaLR(run.optimizer, lambda step: 1.0) if scheduled else None
        run.advance(6)
        first, second = run.optimizer.effective_lrs
        assert first < 0.9e-3, "the target is far below, so that there is something to keep"
        assert second == pytest.approx(first / 10.0)
        if scheduler is not None:
            assert scheduler.get_last_lr() == [1e-3, 1e-4]
