"""torch.distributed.checkpoint, which FSDP and torchtitan use: it drops what stands beside a state's groups."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn, optim
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.nn import functional as F
from torch.optim import lr_scheduler

from dcao import DCAO, MemoryRecorder, policies

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
OPTIONS = {
    "nested": StateDictOptions(),
    "flat": FLAT,
    "full": StateDictOptions(full_state_dict=True),
    "on-the-cpu": StateDictOptions(full_state_dict=True, cpu_offload=True),
    "flat-on-the-cpu": StateDictOptions(flatten_optimizer_state_dict=True, cpu_offload=True),
}
BASES = {
    "adamw": optim.AdamW,
    "adam-tensor-lr": lambda params, lr: optim.Adam(params, lr=torch.tensor(lr), foreach=False),
    "sgd": lambda params, lr: optim.SGD(params, lr=lr),  # which never has a state
    "sgd-momentum": lambda params, lr: optim.SGD(params, lr=lr, momentum=0.9),
    "groups": lambda params, lr: optim.AdamW([{"params": [p], "lr": lr / (1 + i)} for i, p in enumerate(params)]),
}


class Job:
    """A process that trains a small network on the same data as all others."""

    def __init__(self, base: Any = optim.AdamW, lr: float = 1e-3, **settings: Any) -> None:
        torch.manual_seed(0)
        self.x, self.y = torch.randn(48, 10), torch.randint(0, 3, (48,))
        self.net = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))
        self.optimizer = DCAO(base(self.net.parameters(), lr=lr), recorder=MemoryRecorder(), **settings)

    def train(self, num_steps: int) -> list[float]:
        step = lambda: float(self.optimizer.minimize(lambda: F.cross_entropy(self.net(self.x), self.y)))  # noqa: E731
        return [step() for _ in range(num_steps)]


def assert_goes_on(first: Job, second: Job) -> None:
    assert second.optimizer.num_steps == first.optimizer.num_steps
    assert second.optimizer.probe_cost == first.optimizer.probe_cost
    assert second.optimizer.effective_lrs == first.optimizer.effective_lrs
    assert second.train(12) == first.train(12)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("base", BASES)
def test_a_run_goes_on_bit_for_bit(base, options):
    if base == "sgd" and options in ("full", "on-the-cpu"):
        base = "sgd-momentum"  # torch itself fails there without a single tensor in the state
    base, options = BASES[base], OPTIONS[options]
    first = Job(base)
    first.train(27)  # the next probe is due at step 30
    model, saved = copy.deepcopy(get_state_dict(first.net, first.optimizer, options=options))  # torch shares tensors
    second = Job(base, lr=1e-6)  # whatever lr it is given
    set_state_dict(second.net, second.optimizer, model_state_dict=model, optim_state_dict=saved, options=options)
    assert_goes_on(first, second)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
@pytest.mark.parametrize("options", [StateDictOptions(), FLAT], ids=["nested", "flat"])
def test_a_run_goes_on_from_a_folder(options, tmp_path):
    first = Job()
    first.train(27)
    model, state = get_state_dict(first.net, first.optimizer, options=options)
    dcp.save({"model": model, "optimizer": state}, checkpoint_id=tmp_path)
    second = Job(lr=1e-6)
    model, state = get_state_dict(second.net, second.optimizer, options=options)
    dcp.load({"model": model, "optimizer": state}, checkpoint_id=tmp_path)
    set_state_dict(second.net, second.optimizer, model_state_dict=model, optim_state_dict=state, options=options)
    assert_goes_on(first, second)


def test_a_scheduled_run_goes_on():
    jobs = [Job(lr=10.0), Job(lr=10.0)]
    schedules = [lr_scheduler.CosineAnnealingLR(job.optimizer, 60) for job in jobs]
    for _ in range(27):
        jobs[0].train(1)
        schedules[0].step()
    jobs[1].net.load_state_dict(jobs[0].net.state_dict())
    saved = copy.deepcopy(get_optimizer_state_dict(jobs[0].net, jobs[0].optimizer))
    set_optimizer_state_dict(jobs[1].net, jobs[1].optimizer, saved)
    schedules[1].load_state_dict(schedules[0].state_dict())
    levels = [job.optimizer.controller.shape.levels for job in jobs]
    assert levels[0] == levels[1]
    assert levels[0][0] < 1.0
    assert_goes_on(*jobs)


@pytest.mark.parametrize("settings", [{}, {"policy": policies.LearningRate(0.5), "every": 10}], ids=["ceiling", "rule"])
def test_a_probe_that_needs_the_gradient_of_the_step_before_is_made_one_step_later(settings):
    first = Job(**settings)
    first.train(30)  # a probe is due, and the vector that it needs stays behind
    second = Job(**settings)
    second.net.load_state_dict(first.net.state_dict())
    set_optimizer_state_dict(second.net, second.optimizer, get_optimizer_state_dict(first.net, first.optimizer))
    second.train(2)
    record = second.optimizer.loop.recording.recorder.records[0]
    assert record.step == 31
    assert record.estimate.load_signal != 0.0  # which it is where the gradient of the step before is not known


def test_tensors_of_the_model_s_size_are_not_in_the_text():
    job = Job(measure="hessian", spectrum_every=5)
    job.train(30)
    saved = get_optimizer_state_dict(job.net, job.optimizer)
    assert len(saved["param_groups"][0]["dcao"]) < 15_000  # most of it is the state of a random generator
    assert json.loads(saved["param_groups"][0]["dcao"])["loop"]["probe"]["starts"] == {}


@pytest.mark.parametrize("num_steps", [0, 1, 8, 30])
@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_asking_for_the_state_changes_nothing(base, num_steps):
    """torch takes a step with lr 0 to set up a state that is empty, as that of plain SGD always is."""
    asked, not_asked = Job(base), Job(base)
    losses = asked.train(num_steps), not_asked.train(num_steps)
    if num_steps:
        asked.optimizer.zero_grad()
        get_optimizer_state_dict(asked.net, asked.optimizer)
    assert asked.optimizer.num_steps == num_steps
    assert asked.optimizer.controller.shape is None
    assert losses[0] == losses[1]
    assert asked.train(8) == not_asked.train(8)


def test_a_bare_optimizer_and_dcao_exchange_their_states():
    job = Job(optim.AdamW)
    job.train(27)
    saved = get_optimizer_state_dict(job.net, job.optimizer)
    bare = optim.AdamW(job.net.parameters(), lr=1.0)
    set_optimizer_state_dict(job.net, bare, saved)
    assert bare.param_groups[0]["lr"] == job.optimizer.effective_lrs[0]
    fresh = Job(optim.AdamW)
    fresh.train(3)
    bare = optim.AdamW(job.net.parameters(), lr=0.25)
    set_optimizer_state_dict(fresh.net, fresh.optimizer, get_optimizer_state_dict(job.net, bare))
    assert fresh.optimizer.num_steps == 0
    assert fresh.optimizer.effective_lrs == [0.25]
    fresh.train(5)


def test_a_state_that_is_no_json_is_told():
    class Odd(policies.Fixed):
        def propose(self, observation, state):
            return super().propose(observation, {"seen": {1, 2}})

    job = Job(policy=Odd(), every=2)
    job.train(4)
    saved = get_optimizer_state_dict(job.net, job.optimizer)
    other = Job(policy=Odd(), every=2)
    with pytest.warns(UserWarning, match=r"another policy, .*Odd\(\) \(its state is no plain JSON\); .*Odd\(\) starts"):
        set_optimizer_state_dict(other.net, other.optimizer, saved)
    assert other.optimizer.num_steps == 4


@pytest.mark.parametrize("foreign", ["{", "a note", 3.5, ["a", "list"]], ids=str)
def test_a_text_that_dcao_has_not_written_is_refused(foreign):
    job = Job()
    saved = get_optimizer_state_dict(job.net, job.optimizer)
    saved["param_groups"][0]["dcao"] = foreign
    with pytest.raises(ValueError, match='the param groups hold an entry "dcao" that DCAO has not written; delete'):
        set_optimizer_state_dict(job.net, job.optimizer, saved)


def test_a_flat_state_of_the_bare_optimizer_goes_to_the_base():
    bare_net = Job().net
    bare = optim.AdamW(bare_net.parameters(), lr=0.25)
    job = Job()
    saved = get_optimizer_state_dict(bare_net, bare, options=FLAT)
    with pytest.raises(KeyError, match=r"param_groups\.0\.weight\.dcao"):  # torch's own: a group has an entry more
        set_optimizer_state_dict(job.net, job.optimizer, saved, options=FLAT)
    job.optimizer.base.param_groups[0].pop("dcao")
    set_optimizer_state_dict(job.net, job.optimizer.base, saved, options=FLAT)
    assert job.optimizer.effective_lrs == [0.25]
    assert "param_groups.0.weight.dcao" in get_optimizer_state_dict(job.net, job.optimizer, options=FLAT)


def test_a_step_at_lr_0_with_sparse_gradients_is_a_step():
    """A warmup may begin there; the step that sets up a state has dense gradients of zero."""
    table = nn.Embedding(9, 2, sparse=True)
    optimizer = DCAO(optim.SGD(table.parameters(), lr=0.1), policy=policies.Fixed())
    optimizer.param_groups[0]["lr"] = 0.0
    table(torch.arange(3)).sum().backward()
    optimizer.step()
    assert optimizer.num_steps == 1
