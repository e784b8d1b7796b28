"""torch.distributed.checkpoint with another number of ranks: a run on two goes on, on four or in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from dcao import DCAO
from helpers.several_ranks import on_ranks
from helpers.sharded_runs import BATCH, Network, data

BEFORE, STEPS = 28, 50
"""The run stops between two probes, in the rise of lr, and a snapshot has been taken."""


class Job:
    """One rank of a run in shards, or a run in one process."""

    def __init__(self, rank: int, world: int, base: str, lr: float = 1e-3) -> None:
        self.net = Network(torch.float64)
        self.net.num_calls = 10**9  # no part of a checkpoint
        self.rows = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
        if world > 1:
            mesh = init_device_mesh("cpu", (world,))
            fully_shard(self.net.second, mesh=mesh)
            fully_shard(self.net, mesh=mesh)
        make = torch.optim.AdamW if base == "adamw" else torch.optim.SGD
        self.optimizer = DCAO(make(self.net.parameters(), lr=lr), total_steps=STEPS)

    def train(self, first: int, last: int) -> list[tuple[float, float | None]]:
        """lr and s after each step."""
        seen = []
        for x, y in list(zip(*data(STEPS, torch.float64), strict=True))[first:last]:
            self.optimizer.minimize(lambda x=x, y=y: nn.functional.mse_loss(self.net(x[self.rows]), y[self.rows]))
            estimate = self.optimizer.last_estimate
            seen.append((self.optimizer.effective_lrs[0], None if estimate is None else estimate.s))
        return seen

    def save(self, folder: str) -> None:
        model, state = get_state_dict(self.net, self.optimizer)
        dcp.save({"model": model, "optimizer": state}, checkpoint_id=folder)

    def load(self, folder: str) -> None:
        model, state = get_state_dict(self.net, self.optimizer)
        dcp.load({"model": model, "optimizer": state}, checkpoint_id=folder)
        set_state_dict(self.net, self.optimizer, model_state_dict=model, optim_state_dict=state)


BASES = ["adamw", "sgd"]


def begin(rank: int, folder: str) -> dict[str, list[Any]]:
    """The first part of each run, on two ranks."""
    seen = {}
    for base in BASES:
        job = Job(rank, 2, base)
        seen[base] = job.train(0, BEFORE)
        job.save(f"{folder}/{base}")
    return seen


def go_on(rank: int, world: int, folder: str) -> dict[str, list[Any]]:
    """The second part, on another number of ranks."""
    seen = {}
    for base in BASES:
        job = Job(rank, world, base, lr=1e-6)  # whatever lr it is given
        job.load(f"{folder}/{base}")
        assert job.optimizer.num_steps == BEFORE
        seen[base] = job.train(BEFORE, STEPS)
    return seen


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
def test_a_run_on_two_ranks_goes_on_with_four_and_with_one_as_if_uninterrupted(tmp_path: Path):
    begun = on_ranks(2, begin, str(tmp_path))[0]
    on_four = on_ranks(4, go_on, 4, str(tmp_path))
    assert on_four == [on_four[0]] * 4
    alone = go_on(0, 1, str(tmp_path))
    for base in BASES:
        whole = Job(0, 1, base).train(0, STEPS)
        for seen in ([*begun[base], *on_four[0][base]], [*begun[base], *alone[base]]):
            # Sums in another order: 1e-16 each.
            torch.testing.assert_close([lr for lr, _ in seen], [lr for lr, _ in whole], rtol=1e-10, atol=0.0)
            # An estimate is not part of the checkpoint. One-sided differences of 2e-8: 1e-16 over that.
            pairs = [(s, other) for (_, s), (_, other) in zip(seen, whole, strict=True) if s is not None]
            torch.testing.assert_close(*map(list, zip(*pairs, strict=True)), rtol=1e-5, atol=1e-8)
            assert len(pairs) > BEFORE
