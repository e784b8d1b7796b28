"""The rise as a range test: a run whose mean loss turns up goes back to where it was lowest, with half the lr there."""

from __future__ import annotations

import copy
import gc
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn, optim
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler

from dcao import DCAO, Guard, MemoryRecorder, policies, replay

LIMITLESS = policies.Ceiling(target=1e9, max_relative_step=1e9)  # nothing but the loss ends its rise
BOTTOM = 30
BASES: dict[str, Callable[..., optim.Optimizer]] = {
    "adamw": optim.AdamW,
    "sgd": lambda params, lr: optim.SGD(params, lr=lr, momentum=0.9),
}


def turns(step: int) -> float:
    """Falls to 0 at step 30, then rises: far more than what the network adds to it."""
    return 100.0 * abs(step - BOTTOM) / BOTTOM


def falls(step: int) -> float:
    return 100.0 / (1.0 + step)


class Job:
    """A network with buffers on batches of noise, with an offset of the loss that no gradient sees."""

    def __init__(
        self, offset: Callable[[int], float] = turns, *, base: str = "adamw", policy: Any = LIMITLESS, **settings: Any
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
        self.base = BASES[base](self.net.parameters(), lr=10.0)
        self.offset, self.recorder, self.num_done = offset, MemoryRecorder(), 0
        self.optimizer = DCAO(self.base, policy=policy, recorder=self.recorder, **settings)
        self.trained: dict[int, float] = {}
        self.states: dict[int, Any] = {}  # as the step finds them, after its forward pass
        self.base.register_step_pre_hook(self.note)

    def note(self, *_: Any) -> None:
        self.trained[self.num_done] = self.base.param_groups[0]["lr"]
        self.states[self.num_done] = self.state()

    def state(self) -> Any:
        """Weights, buffers and what the base remembers of them."""
        return copy.deepcopy([self.net.state_dict(), self.base.state_dict()["state"]])

    def loss(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.num_done)
        x = torch.randn(32, 6, generator=generator)
        return F.cross_entropy(self.net(x), x[:, :3].argmax(1)) + self.offset(self.num_done)

    def train(self, num_steps: int, after: Callable[[], Any] = lambda: None) -> Job:
        for _ in range(num_steps):
            self.optimizer.minimize(self.loss)
            self.num_done += 1
            after()
        return self

    @property
    def turn(self) -> Any:
        """The one record that says that the loss has turned up."""
        [record] = [record for record in self.recorder.records if record.turned_at is not None]
        return record

    @property
    def has_turned(self) -> bool:
        return any(record.turned_at is not None for record in self.recorder.records)


def assert_equal(left: Any, right: Any) -> None:
    torch.testing.assert_close(left, right, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("base", BASES)
def test_the_run_goes_back_bit_for_bit_and_lr_stays_under_half(base):
    job = Job(base=base)
    while not job.has_turned:
        job.train(1)
        assert job.num_done < 100
    record = job.turn
    assert record.step == job.num_done - 1
    assert re.match(
        r"guard: the mean loss has turned up since lr was .*; back to the snapshot of", record.decision.reason
    )
    went_back_to = int(record.decision.reason.rpartition(" ")[2])
    # The mean of the last 8 losses is lowest 3 or 4 steps after the bottom; copies are 4 steps apart at least.
    assert BOTTOM <= went_back_to <= BOTTOM + 4
    assert_equal(job.state(), job.states[went_back_to])
    assert (job.optimizer.num_restored, job.optimizer.num_skipped) == (1, 1)
    assert record.step not in job.trained  # the base did not step
    # The fifth loss of the lowest window is that of the bottom, or the one beside it; it is of weights that the lr of
    # the step before has made.
    assert record.turned_at in [job.trained[step] for step in (BOTTOM - 2, BOTTOM - 1, BOTTOM)]
    assert record.after.lr == record.turned_at / 2
    end = job.num_done
    job.train(60)
    assert max(lr for step, lr in job.trained.items() if step >= end) <= record.turned_at / 2
    assert job.turn == record


def test_a_loss_that_does_not_turn_changes_nothing():
    with_guard, without = Job(falls).train(60), Job(falls, guard=False).train(60)
    assert not with_guard.has_turned
    assert_equal(with_guard.state(), without.state())


def test_without_snapshots_it_goes_on_from_there_under_the_cap():
    job = Job(guard=Guard(snapshot_every=None)).train(100)
    record = job.turn
    assert "snapshot" not in record.decision.reason
    assert (job.optimizer.num_restored, job.optimizer.num_skipped) == (0, 0)
    assert job.trained[record.step - 1] > record.turned_at
    assert max(lr for step, lr in job.trained.items() if step >= record.step) <= record.turned_at / 2


@pytest.mark.parametrize(
    "settings",
    [{"guard": False}, {"policy": policies.Ceiling(target=1e9, max_relative_step=1e9, first_relative_step=None)}],
    ids=["no guard", "an lr of the user's"],
)
def test_without_a_guard_or_a_rise_of_its_own_nothing_is_watched(settings):
    job = Job(**settings).train(100)
    assert not job.has_turned
    assert not any("turned up" in record.decision.reason for record in job.recorder.records)


def test_only_the_first_quarter_of_the_run_is_watched():
    for total_steps, has_turned in ((4 * BOTTOM, False), (400, True)):
        policy = policies.Ceiling(target=1e9, max_relative_step=1e9, total_steps=total_steps)
        assert Job(policy=policy).train(100).has_turned == has_turned


def test_a_log_with_a_turn_replays():
    job = Job(every=3).train(90)
    assert job.turn.step < 80
    decided = [record.decision for record in job.recorder.records if record.observation is not None]
    assert [each.hyperparameters for each in replay(job.recorder.records, LIMITLESS)] == [
        each.hyperparameters for each in decided
    ]


def test_policies_made_of_policies_are_taken_back_too():
    job = Job(policy=policies.Compose(policies.WeightDecay(0.01), policies.Smoothed(LIMITLESS))).train(90)
    assert max(lr for step, lr in job.trained.items() if step > job.turn.step) <= job.turn.turned_at / 2


# --- under a scheduler

SCHEDULERS = {
    "warmup": lambda base: lr_scheduler.LinearLR(base, 0.1, total_iters=60),
    "decay": lambda base: lr_scheduler.CosineAnnealingLR(base, 120),
    "warmup from 0": lambda base: lr_scheduler.LambdaLR(base, lambda step: min(1.0, step / 50)),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_under_a_scheduler_what_trains_is_compared_and_capped(name):
    job = Job()
    scheduler = SCHEDULERS[name](job.optimizer)
    job.train(120, after=scheduler.step)
    at = job.turn.turned_at
    # What trained at the bottom: the level of the step before, with the share of the step.
    near = [job.trained[step] for step in range(BOTTOM - 3, BOTTOM + 2)]
    assert min(near) * (1.0 - 1e-9) <= at <= max(near) * (1.0 + 1e-9)
    assert 0.0 < max(lr for step, lr in job.trained.items() if step > job.turn.step) <= at / 2 * (1.0 + 1e-9)


def test_steps_at_an_lr_of_0_are_not_the_lowest():
    # The loss is lowest while a scheduler has set lr to 0 for 20 steps, in which nothing trains: half of that is 0 too.
    job = Job(lambda step: 50.0 if 10 <= step < 30 else turns(step) + 100.0)
    scheduler = lr_scheduler.LambdaLR(job.optimizer, lambda step: float(not 10 <= step < 30))
    job.train(90, after=scheduler.step)
    assert job.trained[89] > 0.0


# --- checkpoints


def resumed_at(cut: int, offset: Callable[[int], float], num_steps: int) -> tuple[Job, Job]:
    whole, first, second = Job(offset).train(num_steps), Job(offset).train(cut), Job(offset)
    second.net.load_state_dict(first.net.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.num_done = cut
    return whole, second.train(num_steps - cut)


@pytest.mark.parametrize("cut", [3, 20, 41])
def test_a_run_resumed_in_the_rise_goes_on_bit_for_bit(cut):
    whole, resumed = resumed_at(cut, falls, 60)
    assert not whole.has_turned
    assert_equal(resumed.state(), whole.state())


def test_a_run_resumed_before_the_turn_turns_at_the_same_step():
    whole, resumed = resumed_at(36, turns, 90)
    assert resumed.turn.step == whole.turn.step
    assert resumed.turn.turned_at == whole.turn.turned_at
    # Its snapshot is of after the checkpoint, or it has none: the lowest loss was before.
    assert resumed.turn.after.lr <= resumed.turn.turned_at


# --- what a closure may return

RETURNED: dict[str, Callable[[float], Any]] = {
    "none": lambda loss: None,
    "float": lambda loss: loss,
    "nan now and then": lambda loss: math.nan if round(100 * loss) % 7 == 3 else loss,
    "numpy": np.float32,
    "tensor": torch.tensor,
    "one entry": lambda loss: torch.tensor([loss]),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_a_closure_may_return_what_it_likes(kind):
    weight, generator, recorder = nn.Parameter(torch.ones(4)), torch.Generator().manual_seed(0), MemoryRecorder()
    optimizer = DCAO(optim.SGD([weight], lr=1.0), policy=LIMITLESS, recorder=recorder, every=10**6)
    for step in range(90):

        def closure(step: int = step) -> Any:
            weight.grad = torch.randn(4, generator=generator)
            return RETURNED[kind](turns(step))

        optimizer.step(closure)
    assert any(record.turned_at for record in recorder.records) == (kind != "none")


# --- several ranks

WORLD, NUM_STEPS = 2, 70
OFFSETS = {
    "one turns up": lambda rank, step: turns(step) if rank == 0 else 0.0,
    "up on one, down on the other": lambda rank, step: 2.0 * turns(step) if rank == 0 else -turns(step),
    "turns nowhere": lambda rank, step: falls(step),
    "one has none": lambda rank, step: turns(step) if rank == 0 else None,
    "one has nan": lambda rank, step: turns(step) if rank == 0 else math.nan,
}


def replica(rank: int, offset: Callable[[int, int], float | None]) -> tuple[int | None, Tensor]:
    """The step at which the loss has turned, and the weights at the end."""
    torch.manual_seed(0)
    model, recorder = (
        DistributedDataParallel(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))),
        MemoryRecorder(),
    )
    optimizer = DCAO(optim.SGD(model.parameters(), lr=0.1), policy=LIMITLESS, recorder=recorder, every=10)
    for step in range(NUM_STEPS):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(100 * step + rank))

        def closure(x: Tensor = x, step: int = step) -> float | None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
            return offset(rank, step)

        optimizer.step(closure)
    turned = [record.step for record in recorder.records if record.turned_at is not None]
    return turned[0] if turned else None, torch.cat([p.detach().flatten() for p in model.parameters()])


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    torch.save({name: replica(rank, offset) for name, offset in OFFSETS.items()}, f"{folder}/{rank}.pt")
    gc.collect()  # the wrapped models hold the process group; one that outlives the interpreter aborts the process
    dist.barrier()
    dist.destroy_process_group()


def test_all_ranks_judge_alike_by_the_mean_of_their_losses():
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (folder,), nprocs=WORLD)
        first, second = (torch.load(Path(folder) / f"{rank}.pt") for rank in range(WORLD))
    for name in OFFSETS:
        assert first[name][0] == second[name][0]
        assert torch.equal(first[name][1], second[name][1])
    # Half of what turns, and half of twice that less that, turn where it does; where one rank has no number, or its
    # loss is not finite, nobody knows the mean.
    assert first["one turns up"][0] == first["up on one, down on the other"][0] is not None
    assert first["turns nowhere"][0] is first["one has none"][0] is first["one has nan"][0] is None


def test_a_loop_that_calls_backward_itself_has_no_loss_to_watch():
    job = Job()
    for _ in range(80):
        job.optimizer.probe_if_due(job.loss)
        job.optimizer.zero_grad()
        job.loss().backward()
        job.optimizer.step()
        job.num_done += 1
    assert not job.has_turned


def test_an_optimizer_that_climbs_is_refused_and_a_group_that_does_so_later_is_not_watched():
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"maximize must be False, got True in param group 0"):
        DCAO(optim.SGD([weight], lr=0.1, maximize=True))
    job = Job()
    job.train(10)
    extra = nn.Parameter(torch.zeros(2))
    job.optimizer.add_param_group({"params": [extra], "maximize": True})
    with pytest.warns(UserWarning, match="maximize must be False, got True in param group 1"):
        job.train(80)
    assert not job.has_turned
