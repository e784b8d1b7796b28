"""torch's contract for ``step``: implementations, hooks, the profiler, closures, mixed precision, accumulation."""

from __future__ import annotations

import pytest
import torch
from torch import nn, optim
from torch.optim.optimizer import register_optimizer_step_post_hook

from dcao import DCAO, ProbeSettings, policies
from helpers.contract_cases import (
    BATCHES,
    DEVICE,
    FEW_CASES,
    IMPLEMENTATION_CASES,
    NAMED_CASES,
    Run,
    adapting,
    assert_same_run,
    bare_run,
    case_name,
    dcao_run,
    make_model,
    named,
    options,
    seed_everything,
    trainable,
    watching,
)

# --- foreach, fused, capturable


@pytest.mark.parametrize("case", IMPLEMENTATION_CASES, ids=case_name)
def test_every_implementation_is_adapted(case):
    run = dcao_run(case, **adapting()).advance(8)
    lr = run.optimizer.param_groups[0]["lr"]
    assert run.optimizer.effective_lrs == [float(lr)] != [case.lr]
    assert isinstance(lr, torch.Tensor) == ("tensor" in case.name)


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("case", [c for c in IMPLEMENTATION_CASES if "tensor" in c.name], ids=case_name)
def test_a_tensor_lr_stays_the_same_tensor(case, scheduled):
    """A captured graph reads it where it is."""
    seed_everything()
    run = dcao_run(case, **adapting(target=0.01))
    scheduler = optim.lr_scheduler.ExponentialLR(run.optimizer, 0.99) if scheduled else None
    lr = run.optimizer.param_groups[0]["lr"]
    run.advance(6, after=scheduler.step if scheduler else lambda: None)
    assert run.optimizer.base.param_groups[0]["lr"] is lr
    assert run.optimizer.effective_lrs != pytest.approx([float(lr) if scheduled else case.lr])


@pytest.mark.parametrize("make", [optim.Adam, optim.AdamW, optim.NAdam, optim.RMSprop])
def test_a_capturable_optimizer_is_measured_as_the_plain_one(make):
    """Torch refuses a capturable step on the CPU; everything up to the step works the same."""
    estimates = []
    for capturable in (False, True):
        model = make_model().eval()
        base = make(trainable(model), lr=torch.tensor(1e-3), capturable=capturable, foreach=False)
        run = Run(model, DCAO(base, **options(**adapting())))
        estimates.append(run.optimizer.probe(run.loss))
    assert estimates[1].s == estimates[0].s


# --- hooks and the profiler


def test_step_hooks_fire_once_on_wrapper_and_on_base_in_order():
    run = dcao_run(named("adamw-wd"), **watching())
    calls: list[str] = []
    for name, optimizer in (("wrapper", run.optimizer), ("base", run.optimizer.base)):
        optimizer.register_step_pre_hook(lambda o, args, kwargs, name=name: calls.append(f"{name} pre"))
        optimizer.register_step_post_hook(lambda o, args, kwargs, name=name: calls.append(f"{name} post"))
    run.advance(2)
    assert calls == ["wrapper pre", "base pre", "base post", "wrapper post"] * 2


def test_a_hook_that_clips_gradients_acts_before_the_measurement_and_the_step():
    bare, run = bare_run(named("sgd")), dcao_run(named("sgd"), **watching())
    for each in (bare, run):
        clip = lambda o, args, kwargs: nn.utils.clip_grad_norm_(o.param_groups[0]["params"], 1e-3) and None  # noqa: E731
        each.optimizer.register_step_pre_hook(clip)
    seed_everything()
    bare.advance(4)
    seed_everything()
    assert_same_run(run.advance(4), bare)


def test_global_hooks_see_the_base_alone():
    """Around the wrapper as well they would fire twice a step."""
    seen: list[str] = []
    handle = register_optimizer_step_post_hook(lambda o, args, kwargs: seen.append(type(o).__name__))
    try:
        dcao_run(named("adamw-wd"), **watching()).advance(1)
    finally:
        handle.remove()
    assert seen == ["AdamW"]


def test_the_profiler_names_both_steps():
    run = dcao_run(named("adamw-wd"), **watching()).advance(1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run.advance(1)
    names = {event.key for event in profile.key_averages()}
    assert {"Optimizer.step#DCAO.step", "Optimizer.step#AdamW.step"} <= names


def test_it_prints_what_it_wraps_what_decides_and_what_is_measured():
    base = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=0.003)
    assert repr(DCAO(base, total_steps=200)) == "DCAO(AdamW(lr=0.003), policy=Ceiling(total_steps=200), measure='load')"


def test_it_prints_only_the_settings_that_are_not_the_default():
    class Halving(policies.LearningRate):
        pass

    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    base = torch.optim.SGD([{"params": [weight], "lr": lr} for weight, lr in zip(weights, (0.1, 0.02), strict=True)])
    rules = policies.Compose(policies.Smoothed(Halving(1.2)), policies.Fixed())
    wrapped = DCAO(base, policy=rules, measure=ProbeSettings("hessian", k=3))
    assert repr(wrapped) == (
        "DCAO(SGD(lr=0.02 to 0.1 in 2 groups), "
        "policy=Compose(policies=[Smoothed(policy=Halving(target=1.2)), Fixed()]), "
        "measure=ProbeSettings(measure='hessian', k=3))"
    )


def test_a_policy_without_a_repr_of_its_own_prints_its_name():
    class Mine(policies.Policy):
        def propose(self, observation, state):
            return policies.Decision(hyperparameters=observation.hyperparameters, reason="mine"), state

    base = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    assert repr(DCAO(base, policy=Mine())) == "DCAO(SGD(lr=0.1), policy=Mine, measure='load')"


# --- gradients


@pytest.mark.parametrize("case", FEW_CASES, ids=case_name)
def test_accumulated_gradients_with_a_probe_in_between_train_as_if_bare(case):
    def accumulate(run: Run, *, probe: bool) -> Run:
        seed_everything()
        for _ in range(4):
            run.optimizer.zero_grad()
            for _ in range(3):
                (run.loss() / 3).backward()
                if probe:
                    run.optimizer.probe(run.loss, spectrum=True)
                run.num_done += 1
            run.optimizer.step()
        return run

    assert_same_run(accumulate(dcao_run(case, **watching()), probe=True), accumulate(bare_run(case), probe=False))


def test_accumulation_adapts_by_what_is_probed():
    run = dcao_run(named("adamw-wd"), way="probe+step", every=3).advance(6)
    assert run.optimizer.effective_lrs != [3e-3]


@pytest.mark.parametrize("case", FEW_CASES, ids=case_name)
def test_zeroed_instead_of_removed_gradients_train_as_if_bare(case):
    class Zeroing(Run):
        def backward(self) -> torch.Tensor:
            self.optimizer.zero_grad(set_to_none=False)
            loss = self.loss()
            loss.backward()
            return loss

    def zeroing(run: Run) -> Run:
        seed_everything()
        return Zeroing(run.model, run.optimizer, run.way).advance(6)

    bare = zeroing(bare_run(case, way="closure"))
    for way in ("closure", "probe+step"):
        assert_same_run(zeroing(dcao_run(case, way=way, **watching())), bare)


def test_unused_and_frozen_parameters_keep_having_no_gradient():
    run = dcao_run(named("adamw-wd"), **adapting())
    unused = nn.Parameter(torch.ones(3, device=DEVICE))
    run.optimizer.add_param_group({"params": [unused]})
    run.advance(6)
    assert unused.grad is None
    assert torch.equal(unused, torch.ones_like(unused))  # AdamW decays only what has a gradient


def test_a_layer_thawed_mid_run_is_measured_from_then_on():
    model = make_model()
    run = Run(model, DCAO(optim.AdamW(model.parameters(), lr=3e-3), **options(**adapting(measure="hessian")))).advance(
        3
    )
    size = run.optimizer.loop.probe.memory.starts["hessian"].shape[-1]
    model[0].requires_grad_(True)
    run.advance(3)
    assert run.optimizer.loop.probe.memory.starts["hessian"].shape[-1] == size + 6 * 6 + 6
    assert run.optimizer.last_estimate.s is not None


def test_the_loss_comes_back_detached_from_minimize_and_as_it_is_from_a_closure():
    run = dcao_run(named("sgd"))
    assert not run.optimizer.minimize(run.loss).requires_grad
    assert run.optimizer.step(run.backward).requires_grad
    assert run.optimizer.step(lambda: float(run.backward().detach())) == pytest.approx(1.1, abs=0.5)


def test_minimize_works_where_the_caller_has_switched_gradients_off():
    run = dcao_run(named("sgd"), **watching())
    with torch.no_grad():
        run.advance(2)
    assert run.optimizer.last_estimate.s is not None


# --- mixed precision


def scaled(run: Run, scaler: torch.amp.GradScaler, num_steps: int, *, bad_at: int | None = None) -> Run:
    """GradScaler's own loop; at ``bad_at`` a gradient overflows."""
    seed_everything()
    for step in range(num_steps):
        run.optimizer.zero_grad()
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            loss = run.loss()
        scaler.scale(loss).backward()
        if step == bad_at:
            trainable(run.model)[0].grad.view(-1)[0] = float("inf")
        if isinstance(run.optimizer, DCAO):
            run.optimizer.probe(run.loss)
        scaler.step(run.optimizer)
        scaler.update()
        run.losses.append(float(loss.detach()))
        run.num_done += 1
    return run


@pytest.mark.parametrize("case", [*NAMED_CASES, named("sgd-fused"), named("adam-fused")], ids=case_name)
def test_gradscaler_skips_the_step_with_inf_and_the_run_is_the_bare_one(case):
    """Also with a fused base, which a wrapper that forwards attributes would let take the inf step."""
    scalers = [torch.amp.GradScaler(DEVICE.type, init_scale=2.0**8, growth_interval=3) for _ in range(2)]
    bare = scaled(bare_run(case), scalers[0], 6, bad_at=2)
    run = scaled(dcao_run(case, **watching()), scalers[1], 6, bad_at=2)
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert scalers[1].state_dict() == scalers[0].state_dict()
    assert run.losses == bare.losses
    # Torch's fused path unscales inside the update, where the wrapper's gradients are divided before it: the inverse
    # of a power of two is exact, so the numbers are the same.
    for p, q in zip(run.model.parameters(), bare.model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert run.optimizer.num_steps == 5  # a step that the scaler skipped was never taken
    assert run.optimizer.num_skipped == 0


def test_gradscaler_with_an_adapting_dcao_leaves_the_lr_to_it():
    run = scaled(
        dcao_run(named("adamw-fused"), **adapting()), torch.amp.GradScaler(DEVICE.type, init_scale=2.0**8), 8, bad_at=3
    )
    assert run.optimizer.effective_lrs != [3e-3]
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_unscaled_and_clipped_gradients_work_with_gradscaler():
    run, scaler = dcao_run(named("adamw-wd")), torch.amp.GradScaler(DEVICE.type, init_scale=2.0**8)
    scaler.scale(run.loss()).backward()
    scaler.unscale_(run.optimizer)
    nn.utils.clip_grad_norm_(trainable(run.model), 1.0)
    run.optimizer.probe(run.loss)
    scaler.step(run.optimizer)
    scaler.update()
    assert run.optimizer.num_steps == 1


@pytest.mark.parametrize("outside", [True, False], ids=["autocast-outside", "autocast-inside"])
@pytest.mark.parametrize("way", ["minimize", "closure", "probe+step"])
def test_autocast_in_bf16_trains_as_if_bare_and_is_measured(way, outside):
    class Cast(Run):
        def loss(self) -> torch.Tensor:
            is_on = not outside or torch.is_autocast_enabled(DEVICE.type)
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=is_on):
                inputs, targets = BATCHES[self.num_done % len(BATCHES)]
                return nn.functional.cross_entropy(self.model(inputs).float(), targets)

    def advance(run: Run) -> Run:
        seed_everything()
        run = Cast(run.model, run.optimizer, run.way)
        for _ in range(5):
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=outside):
                run.advance(1)
        return run

    bare = advance(bare_run(named("adamw-wd")))
    run = advance(dcao_run(named("adamw-wd"), way=way, **watching()))
    assert_same_run(run, bare)
    assert run.optimizer.last_estimate.s is not None


@pytest.mark.parametrize("measure", ["load", "batch", "preconditioned", "hessian"])
def test_half_precision_parameters_are_measured_in_float32_copies(measure):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(DEVICE, torch.bfloat16)
    run = Run(model, DCAO(optim.AdamW(model.parameters(), lr=1e-3), **options(**watching(measure=measure))))

    def loss() -> torch.Tensor:
        dtype = model[0].weight.dtype
        return nn.functional.cross_entropy(model(BATCHES[0][0].to(dtype)).float(), BATCHES[0][1])

    for _ in range(3):
        run.optimizer.minimize(loss)
    # At 3 digits a displacement of 1e-3 may come out with any sign; the Ritz values are of differences far larger.
    assert run.optimizer.last_estimate.s is not None
    assert run.optimizer.last_estimate.trust > 0.5
    assert all(p.dtype is torch.bfloat16 for p in model.parameters())


# --- gradients of every kind

SPARSE_BASES = [
    ("sgd", lambda params: optim.SGD(params, lr=0.1, momentum=0.9)),
    ("adagrad", lambda params: optim.Adagrad(params, lr=0.1, foreach=False)),
]


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("measure", ["load", "preconditioned", "hessian"])
@pytest.mark.parametrize("make", [make for _, make in SPARSE_BASES], ids=[name for name, _ in SPARSE_BASES])
def test_sparse_gradients_are_measured_as_their_dense_twins_are(make, measure):
    stability = []
    for sparse in (False, True):
        seed_everything()
        model = nn.Sequential(nn.Embedding(20, 4, sparse=sparse), nn.Tanh(), nn.Linear(4, 3)).double()
        optimizer = DCAO(make(list(model.parameters())), measure=measure, every=2)
        tokens, targets = torch.randint(0, 20, (64,)), torch.randint(0, 3, (64,))
        for _ in range(6):
            optimizer.minimize(lambda: nn.functional.cross_entropy(model(tokens), targets))  # noqa: B023
        stability.append(optimizer.last_estimate.s)
    # Sums over duplicate rows are in another order: rounding in float64, amplified by a one-sided difference.
    assert stability[1] == pytest.approx(stability[0], rel=1e-5)


def test_a_parameter_without_entries_is_no_reason_to_fail():
    weight, nothing = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(0))
    optimizer = DCAO(optim.SGD([weight, nothing], lr=0.1))
    optimizer.minimize(lambda: weight.square().sum() + nothing.sum())
    assert optimizer.num_skipped == 0
    assert optimizer.last_estimate.s == pytest.approx(0.2, rel=1e-2)  # lr * curvature
