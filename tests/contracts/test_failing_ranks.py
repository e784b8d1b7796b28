"""A probe that fails on one rank: no other waits for it, all say so, and the training goes on as without probes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from dcao import DCAO, ProbeLoader, ProbeSettings, is_probing, policies
from helpers.several_ranks import on_ranks
from helpers.sharded_runs import BATCH, Network, data

STEPS, WORLD = 5, 2
FAILING = 1
"""The rank whose loss raises in probes, and never in training."""

# Where it fails, and how the loop drives DCAO. A closure runs its own backward pass, whose collectives the others wait
# for, so that nothing can stand in for it under fully_shard before that is over.
CASES = [
    ("ddp", "before", "minimize"),
    ("ddp", "inside", "minimize"),
    ("ddp", "after", "closure"),
    ("ddp", "before", "hessian"),
    ("ddp", "no data", "loader"),
    ("fully_shard", "before", "minimize"),
    ("fully_shard", "inside", "minimize"),
    ("fully_shard", "after", "minimize"),
    ("fully_shard", "after backward", "closure"),
    ("fully_shard", "before", "hessian"),
    ("fully_shard", "no data", "loader"),
    ("fully_shard", "nan", "minimize"),
]


class Trouble(Exception):
    """What only the failing rank meets."""


def model_of(way: str) -> tuple[nn.Module, Network]:
    network = Network(torch.float64)
    if way == "ddp":
        network.norm = nn.BatchNorm1d(8).double()  # with buffers, which forward passes send to all ranks
        return DistributedDataParallel(network), network
    mesh = init_device_mesh("cpu", (WORLD,))
    for layers in (network.first, [network.norm, network.second]):
        fully_shard(layers, mesh=mesh)
    return fully_shard(network, mesh=mesh), network


def run(rank: int, way: str, where: str, entry: str, *, probes: bool = True) -> tuple[list[Any], torch.Tensor]:
    """What the probes said, and the weights after the run."""
    torch.manual_seed(0)
    model, network = model_of(way)

    def fail(at: str) -> None:
        if at == where and rank == FAILING and is_probing():
            raise Trouble(at)

    network.second.register_forward_pre_hook(lambda *_: fail("inside"))
    measure: Any = ProbeSettings("hessian", k=1, num_lanczos_steps=3) if entry == "hessian" else "load"
    settings: dict[str, Any] = {"measure": measure, "every": 2} if probes else {}
    x, y = data(STEPS, torch.float64)
    share = slice(rank * BATCH // WORLD, (rank + 1) * BATCH // WORLD)

    def loss_of(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        fail("before")
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        fail("after")
        is_nan = where == "nan" and rank == FAILING and is_probing()
        return loss * torch.nan if is_nan else loss

    if entry == "loader" and probes:
        batches = [] if rank == FAILING else [(x[0, share], y[0, share])]
        settings["probe_batch"] = ProbeLoader(batches, loss_of, num_batches=1)
    optimizer = DCAO(torch.optim.SGD(model.parameters(), lr=0.05), policy=policies.Fixed(), **settings)
    said = []
    for inputs, targets in zip(x[:, share], y[:, share], strict=True):

        def loss_fn(inputs: torch.Tensor = inputs, targets: torch.Tensor = targets) -> torch.Tensor:
            return loss_of((inputs, targets))

        def closure(loss_fn: Callable[[], torch.Tensor] = loss_fn) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_fn()
            loss.backward()
            fail("after backward")
            return loss

        if entry == "closure":
            optimizer.step(closure)
        else:
            optimizer.minimize(loss_fn)
        estimate = optimizer.last_estimate
        said += [] if estimate is None else [(estimate.s, estimate.trust, estimate.cost, estimate.reason)]
    return said, torch.cat([getattr(p, "full_tensor", lambda p=p: p)().detach().flatten() for p in model.parameters()])


def work(rank: int) -> list[Any]:
    return [(run(rank, *case), run(rank, *case, probes=False)[1]) for case in CASES]


@pytest.fixture(scope="module")
def results() -> list[list[Any]]:
    """What each rank has come to in each case, within seconds: a rank that waits for another ends the test."""
    return on_ranks(WORLD, work, timeout=timedelta(seconds=20))


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_all_ranks_say_that_the_probe_failed_and_train_on_as_without_it(case, results):
    (sound, weights), bare = results[1 - FAILING][CASES.index(case)]
    (failed, other_weights), _ = results[FAILING][CASES.index(case)]
    assert torch.equal(weights, bare)
    assert torch.equal(weights, other_weights)
    assert len(sound) == len(failed) == STEPS
    for (s, trust, cost, reason), (own_s, own_trust, own_cost, own_reason) in zip(sound, failed, strict=True):
        assert (repr(s), trust, cost) == (repr(own_s), own_trust, own_cost)
        assert trust == 0.0 or case[1] == "nan"
        if case[1] == "nan":
            assert reason == own_reason
        elif case[1] == "no data":
            assert "the probe's loader gave no batch" in own_reason
            assert reason.endswith("the loss could not be evaluated on another rank")
        else:
            assert own_reason.endswith(f"Trouble: {case[1]}")
            assert reason.endswith("the loss could not be evaluated on another rank")
