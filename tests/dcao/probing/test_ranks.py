"""Under DistributedDataParallel every rank decides alike, and as one process with all the data would."""

import copy
import gc
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dcao import DCAO, MemoryRecorder, ProbeSettings, policies
from helpers.counting import Count

WORLD, BATCH, STEPS = 2, 12, 8


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(STEPS, BATCH, n, generator=generator, dtype=torch.float64) for n in (5, 2))


def train(model: nn.Module, rows: slice, measure: str, way: str) -> list[tuple[float, float]]:
    """``(s, lr)`` after each probe, on these rows of every batch."""
    recorder = MemoryRecorder()
    base = torch.optim.AdamW(model.parameters(), lr=1e-3)
    optimizer = DCAO(base, measure=ProbeSettings(measure, k=1, num_lanczos_steps=6), every=2, recorder=recorder)
    for x, y in zip(*data(), strict=True):

        def loss_fn(x=x[rows], y=y[rows]):
            return nn.functional.mse_loss(model(x), y)

        def closure(loss_fn=loss_fn):
            optimizer.zero_grad()
            loss = loss_fn()
            loss.backward()
            if way == "closure, clipped":
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            elif way == "closure, values clipped":
                nn.utils.clip_grad_value_(model.parameters(), 0.01)
            return loss

        if way == "minimize":
            optimizer.minimize(loss_fn)
        elif way == "parts":
            halves = [slice(None, None, 2), slice(1, None, 2)]
            parts = [lambda x=x[rows][half], y=y[rows][half]: nn.functional.mse_loss(model(x), y) for half in halves]
            optimizer.minimize(parts, clip_norm=0.1)
        else:
            optimizer.step(closure)
    assert optimizer.guard.num_skipped == 0
    return [(record.estimate.s, record.after.lr) for record in recorder.records]


CASES = [
    ("load", "minimize"),
    ("load", "closure"),
    ("load", "closure, clipped"),
    ("load", "closure, values clipped"),
    ("load", "parts"),
    ("preconditioned", "minimize"),
    ("hessian", "closure"),
    ("hessian", "parts"),
]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    share = BATCH // WORLD
    rows = slice(rank * share, (rank + 1) * share)
    histories = [train(DistributedDataParallel(network()), rows, *case) for case in CASES]
    torch.save(histories, f"{folder}/{rank}.pt")
    gc.collect()  # the wrapped models hold the process group; one that outlives the interpreter aborts the process
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def histories() -> list[list[list[tuple[float, float]]]]:
    """What each rank has measured and decided in each case; processes are started once for all of them."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (folder,), nprocs=WORLD)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_all_ranks_decide_as_one_process_with_all_the_data(case, histories):
    first, second = (each[CASES.index(case)] for each in histories)
    assert first == second  # bit for bit, or the replicas drift apart
    alone = train(copy.deepcopy(network()), slice(None), *case)
    # Sums in another order (1e-16) over a difference of gradients 1e-8 (one-sided) or 6e-6 (central) apart.
    torch.testing.assert_close(torch.tensor(first), torch.tensor(alone), rtol=1e-5, atol=1e-8)
    assert len(first) >= STEPS // 2


def train_with_buffers(every: int, *, differs_on: int | None = None) -> tuple[dict[str, torch.Tensor], str]:
    """Weights and buffers after a run, and the reason of the last probe."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)).double()
    model, rank, count = DistributedDataParallel(net), dist.get_rank(), Count()
    base = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer = DCAO(base, policy=policies.Fixed(), every=every, measure="batch")
    share = BATCH // WORLD
    for x, y in zip(*data(), strict=True):
        mine = slice(rank * share, (rank + 1) * share)

        def loss_fn(x=x[mine], y=y[mine]):
            loss = nn.functional.mse_loss(model(x), y)
            return loss * count.add() if rank == differs_on else loss

        optimizer.minimize(loss_fn)
    return net.state_dict(), optimizer.last_estimate.reason if optimizer.last_estimate else ""


def worker_with_state(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    plain, probed = train_with_buffers(10**9)[0], train_with_buffers(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reason = train_with_buffers(2, differs_on=1)[1]
    told = sum("the loss is not the same when it is evaluated again" in str(each.message) for each in caught)
    torch.save((plain, probed, reason, told), f"{folder}/{rank}.pt")
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def test_buffers_that_the_ranks_share_are_put_back_and_one_rank_that_does_not_repeat_stops_all():
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker_with_state, (folder,), nprocs=WORLD)
        ranks = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(WORLD)]
    for plain, (probed, reason), held, told in ranks:
        assert plain.keys() == probed.keys()
        assert all(torch.equal(plain[name], probed[name]) for name in plain)
        assert reason == ""
        assert "the loss differs at each evaluation" in held
        assert told == 1
