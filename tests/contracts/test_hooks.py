"""What torch hangs on a step: hooks of all optimizers and of one, the profiler, schedulers, the gradient scaler."""

from __future__ import annotations

import copy
import warnings
from contextlib import contextmanager

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from dcao import DCAO, policies
from helpers.contract_cases import UNKNOWN_CASE, adapting, bare_run, dcao_run, named


@contextmanager
def global_hooks(calls: list[str]):
    handles = [
        register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: calls.append("all pre")),
        register_optimizer_step_post_hook(lambda optimizer, args, kwargs: calls.append("all post")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def note_steps(optimizer: optim.Optimizer, name: str, calls: list[str]) -> None:
    optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: calls.append(f"{name} pre"))
    optimizer.register_step_post_hook(lambda optimizer, args, kwargs: calls.append(f"{name} post"))


@pytest.mark.parametrize(
    ("case", "way"),
    [
        (named("adamw-wd"), "minimize"),
        (named("adamw-wd"), "closure"),
        (named("adamw-wd"), "probe+step"),
        (UNKNOWN_CASE, "minimize"),
        (UNKNOWN_CASE, "closure"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_hooks_of_all_optimizers_fire_once_a_step(case, way):
    run = dcao_run(case, way=way, **({"policy": policies.Fixed()} if case is UNKNOWN_CASE else adapting()))
    calls: list[str] = []
    note_steps(run.optimizer, "own", calls)
    note_steps(run.optimizer.base, "base", calls)
    with global_hooks(calls):
        run.advance(2)
        bare_calls: list[str] = []
        bare = bare_run(case)
        note_steps(bare.optimizer, "base", bare_calls)
        calls_of_run, calls[:] = list(calls), []
        bare.advance(1)
    assert calls == ["all pre", "all post"]  # the bare optimizer's
    once = ["own pre", "all pre", "base pre", "base post", "all post", "own post"]
    assert calls_of_run == once * 2


def test_hooks_of_all_optimizers_fire_once_beside_another_optimizer():
    """torch marks a class when the first instance of it is made: the order must not matter."""
    calls: list[str] = []
    runs = [dcao_run(named("sgd"), policy=policies.Fixed()), dcao_run(named("nadam"), policy=policies.Fixed())]
    with global_hooks(calls):
        for run in [*runs, copy.deepcopy(runs[0])]:
            run.advance(1)
    assert calls == ["all pre", "all post"] * 3


def test_a_pre_hook_may_replace_the_closure():
    run = dcao_run(named("sgd"), way="closure", policy=policies.Fixed())

    def doubled(optimizer, args, kwargs):
        closure = args[1]
        return (args[0], lambda: 2.0 * closure()), kwargs

    run.optimizer.register_step_pre_hook(doubled)
    bare = bare_run(named("sgd"), way="closure")
    bare.optimizer.register_step_pre_hook(doubled)
    torch.manual_seed(0)
    run.advance(3)
    torch.manual_seed(0)
    assert run.losses == bare.advance(3).losses


def test_a_pre_hook_that_returns_nonsense_is_refused():
    run = dcao_run(named("sgd"), policy=policies.Fixed())
    run.optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: 3)
    with pytest.raises(RuntimeError, match=r"a step pre-hook must return None or a tuple \(args, kwargs\), got 3"):
        run.advance(1)


def test_a_removed_hook_no_longer_fires():
    run = dcao_run(named("sgd"), policy=policies.Fixed())
    calls: list[str] = []
    handle = run.optimizer.register_step_post_hook(lambda optimizer, args, kwargs: calls.append("own"))
    run.advance(1)
    handle.remove()
    run.advance(1)
    assert calls == ["own"]


def test_probes_go_on_when_a_hook_that_clipped_is_gone():
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    x, y = torch.randn(32, 4), torch.randn(32, 1)
    optimizer = DCAO(optim.SGD(model.parameters(), lr=0.01), policy=policies.Fixed(), measure="load", every=1)

    def clip(*args: object) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)

    handle, probed = optimizer.base.register_step_pre_hook(clip), []
    for step in range(4):
        optimizer.minimize(lambda: nn.functional.mse_loss(model(x), y))
        probed.append(optimizer.last_estimate.step)
        if step == 1:
            handle.remove()
    assert probed == [0, 1, 2, 3]


def test_the_profiler_sees_both_steps_once():
    run = dcao_run(named("adamw-wd"), policy=policies.Fixed()).advance(1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run.advance(3)
    counts = {event.key: event.count for event in profile.key_averages() if event.key.startswith("Optimizer.step")}
    assert counts == {"Optimizer.step#DCAO.step": 3, "Optimizer.step#AdamW.step": 3}


def test_a_scheduler_knows_that_the_wrapper_has_stepped():
    run = dcao_run(named("adamw-wd"), **adapting())
    scheduler = lr_scheduler.StepLR(run.optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.advance(3, after=scheduler.step)
    early = lr_scheduler.StepLR(dcao_run(named("adamw-wd")).optimizer, 1)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        early.step()


def test_a_gradient_scaler_steps_through_the_wrapper():
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    bare = optim.SGD([weights[0]], lr=0.1)
    wrapped = DCAO(optim.SGD([weights[1]], lr=0.1), policy=policies.Fixed())
    for weight, optimizer in zip(weights, (bare, wrapped), strict=True):
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
        for step in range(6):
            optimizer.zero_grad()
            factor = float("inf") if step == 3 else 1.0
            scaler.scale(factor * weight.square().sum()).backward()
            scaler.step(optimizer)
            scaler.update()
    assert torch.equal(*weights)
    assert wrapped.num_steps == 5  # the scaler has left out the step that overflowed
