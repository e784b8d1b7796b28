"""Copies and checkpoints: a run goes on bit for bit where it was; DCAO's files and the bare optimizer's interchange."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.optim import lr_scheduler

from dcao import DCAO, Guard, MemoryRecorder, ProbeLoader, policies, schedules
from helpers.contract_cases import (
    BATCHES,
    FEW_CASES,
    MEASURES,
    NAMED_CASES,
    UNKNOWN_CASE,
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
    snapshot,
    trainable,
    watching,
)

BEFORE, AFTER = 7, 7  # neither a multiple of the probing interval


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def reload(run: Run, fresh: Run) -> Run:
    """``fresh`` with the weights and the optimizer state of ``run``, by way of files."""
    fresh.model.load_state_dict(through_a_file(run.model.state_dict()))
    fresh.optimizer.load_state_dict(through_a_file(run.optimizer.state_dict()))
    fresh.num_done, fresh.losses = run.num_done, list(run.losses)
    return fresh


def assert_resumes(make_run, **settings: Any) -> Run:
    """Stopped and gone on in a new process, against never stopped. ``make_run()`` is a fresh process."""
    seed_everything()
    straight = make_run(**settings).advance(BEFORE)
    rng = torch.get_rng_state()
    stopped = reload(straight, make_run(**settings))
    straight.advance(AFTER)
    torch.set_rng_state(rng)
    stopped.advance(AFTER)
    assert_same_run(stopped, straight)
    assert stopped.optimizer.effective_lrs == straight.optimizer.effective_lrs
    for counter in ("num_steps", "num_skipped", "probe_cost"):
        assert getattr(stopped.optimizer, counter) == getattr(straight.optimizer, counter)
    return stopped


ALL_RULES = policies.Compose(
    policies.Smoothed(policies.LearningRate(0.2)), policies.Momentum(0.2, target=0.2), policies.WeightDecay(0.2)
)


@pytest.mark.parametrize("case", NAMED_CASES, ids=case_name)
def test_a_resumed_run_is_the_run_that_was_never_stopped(case):
    stopped = assert_resumes(lambda **s: dcao_run(case, **s), **adapting())
    assert stopped.optimizer.effective_lrs != [case.lr]


@pytest.mark.parametrize("way", ["minimize", "closure", "probe+step"])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_run_resumes_under_every_measure_and_way_in(measure, way):
    assert_resumes(lambda **s: dcao_run(named("adamw-wd"), way=way, **s), **adapting(measure=measure, spectrum_every=3))


@pytest.mark.parametrize("case", [named("sgd-momentum-l2"), named("adamw-wd"), named("rmsprop-l2")], ids=case_name)
def test_a_run_resumes_with_all_three_rules(case):
    stopped = assert_resumes(lambda **s: dcao_run(case, **s), **adapting(policy=ALL_RULES))
    group = stopped.optimizer.param_groups[0]
    assert group["weight_decay"] != 0.05
    assert group.get("momentum") not in (0.5, 0.9)


def run_with_loader(**settings: Any) -> Run:
    model = make_model()
    dataset = torch.utils.data.TensorDataset(torch.cat([x for x, _ in BATCHES]), torch.cat([y for _, y in BATCHES]))
    loader = torch.utils.data.DataLoader(dataset, batch_size=12, shuffle=True)
    batches = ProbeLoader(loader, lambda batch: F.cross_entropy(model(batch[0]), batch[1]), num_batches=2)
    return Run(model, DCAO(named("adamw-wd").make(trainable(model), 3e-3), probe_batch=batches, **options(**settings)))


@pytest.mark.parametrize("measure", MEASURES)
def test_a_run_resumes_with_probe_batches_of_its_own(measure):
    stopped = assert_resumes(run_with_loader, **adapting(measure=measure))
    assert stopped.optimizer.effective_lrs != [3e-3]


@pytest.mark.parametrize("overhead", [0.05, 0.3])
def test_a_run_on_a_budget_resumes(overhead):
    assert_resumes(lambda **s: dcao_run(named("adamw-wd"), **s), every=schedules.Overhead(overhead))


@pytest.mark.parametrize("optimizer_first", [True, False])
@pytest.mark.parametrize(
    "make", [lambda o: lr_scheduler.CosineAnnealingLR(o, 20), lambda o: lr_scheduler.OneCycleLR(o, 0.01, 20)]
)
def test_a_scheduled_run_resumes_in_either_order(make, optimizer_first):
    def process() -> tuple[Run, Any]:
        run = dcao_run(named("adamw-wd"), **adapting(target=2e-3))
        return run, make(run.optimizer)

    seed_everything()
    straight, schedule = process()
    straight.advance(BEFORE, after=schedule.step)
    rng = torch.get_rng_state()
    stopped, again = process()
    saved = copy.deepcopy(schedule.state_dict())
    if not optimizer_first:
        again.load_state_dict(saved)
    reload(straight, stopped)
    if optimizer_first:
        again.load_state_dict(saved)
    straight.advance(AFTER, after=schedule.step)
    torch.set_rng_state(rng)
    stopped.advance(AFTER, after=again.step)
    assert_same_run(stopped, straight)
    assert stopped.optimizer.effective_lrs == straight.optimizer.effective_lrs
    assert stopped.optimizer.effective_lrs[0] < again.get_last_lr()[0]


def test_an_lr_written_just_before_the_checkpoint_is_still_the_writers_after_it():
    settings = {"target": 1e6, "settle": False, "never_above_schedule": True}
    straight = dcao_run(named("adamw-wd"), **adapting(**settings)).advance(4)
    straight.optimizer.param_groups[0]["lr"] = 1e-4
    stopped = reload(straight, dcao_run(named("adamw-wd"), **adapting(**settings))).advance(6)
    assert stopped.optimizer.effective_lrs == [1e-4]
    assert straight.advance(6).optimizer.effective_lrs == [1e-4]


def test_a_cycled_momentum_is_still_the_schedulers_after_a_checkpoint():
    policy = policies.Momentum(0.5, target=1e-3, anchor=0.0)
    run = dcao_run(named("adamw-wd"), **adapting(policy=policy))
    cycle = lr_scheduler.OneCycleLR(run.optimizer, 0.01, total_steps=20)
    with pytest.warns(UserWarning, match="decides on momentum is not carried out: somebody else sets it"):
        run.advance(3, after=cycle.step)
    expected = run.optimizer.param_groups[0]["betas"]
    resumed = reload(run, dcao_run(named("adamw-wd"), **adapting(policy=policy)))
    with pytest.warns(UserWarning, match="somebody else sets it"):
        resumed.advance(2)
    assert resumed.optimizer.param_groups[0]["betas"] == expected


def test_a_resumed_run_that_probes_by_hand_waits_for_the_hand():
    run = dcao_run(named("adamw-wd"), way="probe+step").advance(15)
    resumed = reload(run, dcao_run(named("adamw-wd"), way="step"))
    resumed.advance(10)  # passes a multiple of the default interval with nothing to probe
    assert resumed.optimizer.num_steps == 25


# --- interchange with the bare optimizer


@pytest.mark.parametrize("case", [*NAMED_CASES, UNKNOWN_CASE], ids=case_name)
def test_the_bare_optimizer_loads_dcaos_checkpoint(case):
    run = dcao_run(case, policy=policies.Fixed()).advance(5)
    bare = reload(run, bare_run(case))
    seed_everything()
    run.advance(5)
    seed_everything()
    assert_same_run(bare.advance(5), run)


@pytest.mark.parametrize("case", [*NAMED_CASES, UNKNOWN_CASE], ids=case_name)
def test_dcao_loads_the_bare_optimizers_checkpoint(case):
    bare = bare_run(case).advance(5)
    run = reload(bare, dcao_run(case, policy=policies.Fixed()))
    seed_everything()
    bare.advance(5)
    seed_everything()
    assert_same_run(run.advance(5), bare)
    assert run.optimizer.num_steps == 5  # of its own


def test_the_bare_checkpoint_of_an_adapted_run_holds_the_lr_that_trained():
    run = dcao_run(named("adamw-wd"), **adapting()).advance(6)
    bare = reload(run, bare_run(named("adamw-wd")))
    assert [group["lr"] for group in bare.optimizer.param_groups] == run.optimizer.effective_lrs


@pytest.mark.parametrize("measure", ["load", "hessian"])
def test_a_bare_checkpoint_starts_a_used_dcao_afresh(measure):
    bare = bare_run(named("adamw-wd")).advance(5)
    settings = adapting(measure=measure, spectrum_every=2, guard=Guard(snapshot_every=1))
    used = dcao_run(named("adamw-wd"), **settings).advance(9)
    used.loss = poisoned(used.loss)
    used.advance(2)
    assert used.optimizer.num_skipped == 2
    del used.loss
    reload(bare, used)
    fresh = reload(bare, dcao_run(named("adamw-wd"), **settings))
    for counter in ("num_steps", "num_skipped", "probe_cost", "last_estimate"):
        assert getattr(used.optimizer, counter) == getattr(fresh.optimizer, counter), counter
    seed_everything()
    fresh.advance(6)
    seed_everything()
    assert_same_run(used.advance(6), fresh)


def poisoned(loss):
    return lambda: loss() * float("nan")


def test_a_snapshot_of_before_a_load_is_not_gone_back_to():
    run = dcao_run(named("adamw-wd"), **adapting(guard=Guard(snapshot_every=1))).advance(3)
    reload(bare_run(named("adamw-wd")), run)
    expected = [p.detach().clone() for p in run.model.parameters()]
    run.loss = poisoned(run.loss)
    run.advance(4)
    assert all(torch.equal(p, value) for p, value in zip(run.model.parameters(), expected, strict=True))


def test_loading_shares_the_groups_again():
    run = dcao_run(named("adamw-wd"), policy=policies.Fixed()).advance(1)
    for load in (run.optimizer.load_state_dict, run.optimizer.base.load_state_dict):
        load(run.optimizer.state_dict())  # the base itself ignores the key "dcao"
        run.advance(1)
        assert run.optimizer.param_groups is run.optimizer.base.param_groups
        assert run.optimizer.state is run.optimizer.base.state
    scheduler = lr_scheduler.StepLR(run.optimizer, 1, gamma=0.5)
    run.advance(1, after=scheduler.step)
    assert run.optimizer.base.param_groups[0]["lr"] == scheduler.get_last_lr()[0] == 1.5e-3


def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing():
    run = dcao_run(named("adamw-wd"), **adapting()).advance(3)
    other = optim.AdamW([{"params": [nn.Parameter(torch.zeros(2))]}, {"params": [nn.Parameter(torch.zeros(2))]}])
    before, own = snapshot(run), run.optimizer.state_dict()["dcao"]
    with pytest.raises(ValueError, match="different number of parameter groups"):
        run.optimizer.load_state_dict(DCAO(other).state_dict())
    assert snapshot(run)["lrs"] == before["lrs"]
    assert run.optimizer.state_dict()["dcao"]["loop"]["num_steps"] == own["loop"]["num_steps"]


def test_the_state_of_another_policy_is_left_behind():
    run = dcao_run(named("adamw-wd"), **adapting(policy=policies.LearningRate(0.5))).advance(5)
    other = dcao_run(named("adamw-wd"), **adapting(policy=ALL_RULES))
    with pytest.warns(UserWarning, match="another policy"):
        reload(run, other)
    other.advance(3)


OTHERS = {
    "another-policy": {"policy": policies.Ceiling(), "every": 10},
    "fixed": {"policy": policies.Fixed()},
    "a-budget": {"policy": policies.LearningRate(0.5), "every": schedules.Overhead(0.01)},
}


@pytest.mark.filterwarnings("ignore:the checkpoint is of another policy")
@pytest.mark.parametrize("settings", OTHERS.values(), ids=list(OTHERS))
def test_a_probe_that_a_policy_has_asked_for_is_left_behind_with_it(settings):
    def run(**settings) -> DCAO:
        weight = nn.Parameter(torch.ones(1))
        return DCAO(optim.SGD([weight], lr=1e-3), recorder=MemoryRecorder(), **settings)

    def minimize(optimizer: DCAO) -> None:
        weight = optimizer.param_groups[0]["params"][0]
        optimizer.minimize(lambda: weight.square().sum())

    asking = run(policy=policies.LearningRate(0.5), every=10)
    minimize(asking)
    assert asking.last_decision.probe_again  # lr is far too small, and the rule is at its clip
    same, other = run(policy=policies.LearningRate(0.5), every=10), run(**settings)
    for resumed in (same, other):
        resumed.load_state_dict(asking.state_dict())
        minimize(resumed)
    assert [record.step for record in same.loop.recording.recorder.records] == [1]
    assert other.loop.recording.recorder.records == []


def test_loading_does_not_keep_the_dictionary_that_it_was_given():
    run = dcao_run(named("adamw-wd"), **adapting()).advance(3)
    saved = run.optimizer.state_dict()
    kept = copy.deepcopy(saved)
    run.optimizer.load_state_dict(saved)
    assert saved.keys() == kept.keys()
    first = through_a_file(kept)["dcao"]
    run.advance(6)
    second = through_a_file(saved)["dcao"]
    assert second["loop"]["num_steps"] == first["loop"]["num_steps"] == 3
    assert second["controller"] == first["controller"]


# --- copies


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda run: pickle.loads(pickle.dumps(run))}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("case", [*NAMED_CASES, named("adagrad-fused")], ids=case_name)
def test_a_copied_run_goes_the_same_way(case, how):
    seed_everything()
    run = dcao_run(case, **adapting(recorder=MemoryRecorder(), guard=Guard(snapshot_every=2))).advance(BEFORE)
    twin = COPIES[how](run)
    assert twin.optimizer.param_groups is twin.optimizer.base.param_groups
    assert twin.optimizer.state is twin.optimizer.base.state
    rng = torch.get_rng_state()
    run.advance(AFTER)
    torch.set_rng_state(rng)
    twin.advance(AFTER)
    assert_same_run(twin, run)
    assert len(twin.optimizer.loop.recording.recorder.records) == len(run.optimizer.loop.recording.recorder.records)


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_independent(how):
    run = dcao_run(named("adamw-wd"), **adapting()).advance(3)
    before = snapshot(run)
    COPIES[how](run).advance(4)
    assert snapshot(run)["tensors"].keys() == before["tensors"].keys()
    assert all(torch.equal(t, before["tensors"][name]) for name, t in snapshot(run)["tensors"].items())
    assert run.optimizer.num_steps == 3


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_scheduled_run_is_still_scheduled(how):
    run = dcao_run(named("adamw-wd"), **adapting())
    scheduler = lr_scheduler.StepLR(run.optimizer, 1, gamma=0.5)
    run.advance(2, after=scheduler.step)
    if how == "pickle":
        twin, again = pickle.loads(pickle.dumps((run, scheduler)))
    else:
        twin, again = copy.deepcopy((run, scheduler))
    assert again.optimizer is twin.optimizer
    twin.advance(1, after=again.step)
    assert twin.optimizer.base.param_groups[0]["lr"] == pytest.approx(3e-3 / 8)


def test_a_copy_of_the_optimizer_alone_does_not_copy_the_model():
    run = dcao_run(named("adamw-wd"), **adapting(guard=Guard(snapshot_every=1))).advance(3)
    assert len(pickle.dumps(run.optimizer)) < 40_000
    assert not any(isinstance(value, nn.Module) for value in run.optimizer.__getstate__().values())
    assert b"BatchNorm" not in pickle.dumps(run.optimizer)


# --- hooks and groups


def test_state_dict_hooks_fire_on_wrapper_and_base():
    run = dcao_run(named("adamw-wd"), policy=policies.Fixed()).advance(1)
    calls: list[str] = []
    for name, optimizer in (("wrapper", run.optimizer), ("base", run.optimizer.base)):
        optimizer.register_state_dict_pre_hook(lambda o, name=name: calls.append(f"{name} save pre"))
        optimizer.register_state_dict_post_hook(lambda o, d, name=name: {**d, f"{name} note": 1})
        optimizer.register_load_state_dict_pre_hook(lambda o, d, name=name: calls.append(f"{name} load pre"))
        optimizer.register_load_state_dict_post_hook(lambda o, name=name: calls.append(f"{name} load post"))
    saved = run.optimizer.state_dict()
    assert saved["wrapper note"] == saved["base note"] == 1
    run.optimizer.load_state_dict(saved)
    assert calls == [
        "wrapper save pre",
        "base save pre",
        "wrapper load pre",
        "base load pre",
        "base load post",
        "wrapper load post",
    ]


def test_a_load_hook_may_replace_the_state():
    run, other = (dcao_run(named("adamw-wd"), policy=policies.Fixed()).advance(n) for n in (1, 4))
    replacement = other.optimizer.state_dict()
    run.optimizer.register_load_state_dict_pre_hook(lambda optimizer, state_dict: replacement)
    run.optimizer.load_state_dict({"state": {}, "param_groups": []})
    assert run.optimizer.num_steps == 4


@pytest.mark.parametrize("via", ["wrapper", "base"])
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("case", FEW_CASES, ids=case_name)
def test_a_group_added_mid_run_trains_and_is_measured(case, scheduled, via):
    run = dcao_run(case, **adapting(target=0.01, guard=Guard(snapshot_every=1)))
    scheduler = lr_scheduler.LambdaLR(run.optimizer, lambda step: 1.0) if scheduled else None
    run.advance(4)
    head = nn.Linear(3, 3)
    run.model.append(head)
    before, num_params = head.weight.detach().clone(), len(run.optimizer.loop.probe.params())
    optimizer = run.optimizer if via == "wrapper" else run.optimizer.base
    optimizer.add_param_group({"params": list(head.parameters()), "lr": 0.5 * case.lr})
    run.advance(4)
    assert not torch.equal(head.weight, before)
    assert len(run.optimizer.loop.probe.params()) == num_params + 2
    assert len(run.optimizer.effective_lrs) == 2
    assert run.optimizer.last_estimate.s is not None
    if scheduler is not None:
        assert run.optimizer.param_groups[1]["lr"] == 0.5 * case.lr
    run.loss = poisoned(run.loss)
    run.advance(4)  # back to a snapshot of the groups as they are now


@pytest.mark.parametrize("via", ["wrapper", "base"])
def test_a_group_added_under_fixed_trains_as_if_bare(via):
    def advance(run: Run, optimizer: optim.Optimizer) -> Run:
        seed_everything()
        run.advance(3)
        torch.manual_seed(1)
        head = nn.Linear(3, 3)
        run.model.append(head)
        optimizer.add_param_group({"params": list(head.parameters()), "lr": 1e-3})
        return run.advance(5)

    bare, run = bare_run(named("adamw-wd")), dcao_run(named("adamw-wd"), **watching())
    assert_same_run(
        advance(run, run.optimizer if via == "wrapper" else run.optimizer.base), advance(bare, bare.optimizer)
    )


def test_named_parameters_keep_their_names():
    model = make_model()
    run = Run(model, DCAO(optim.AdamW([(n, p) for n, p in model.named_parameters() if p.requires_grad])))
    run.advance(2)
    assert run.optimizer.state_dict()["param_groups"][0]["param_names"][0] == "1.weight"
    run.optimizer.load_state_dict(run.optimizer.state_dict())
