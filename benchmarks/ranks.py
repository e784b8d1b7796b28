"""What DCAO adds to the time of a run on several ranks, beside what it adds on one process.

A transformer of the shape of GPT-2 with 10 million parameters is trained by AdamW, 256 tokens a rank: in one process,
under DistributedDataParallel, and in shards (``fully_shard``), the last two on two processes over gloo, with one thread
each. A bare AdamW and one inside DCAO take turns, a step each, as in ``run_time.py``, whose sums these are.

Run: python benchmarks/ranks.py (4 minutes). Prints a table and writes results/ranks.json.
"""

from __future__ import annotations

import time
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import dcao
from large_models import SIZES, TOKENS, Gpt
from recorded import keep_freed_memory, write_results
from run_time import RUNS, in_turn, overhead

NUM_RANKS = 2
NUM_STEPS = 60
SEQUENCES = 2
WAYS = ("one process", "DDP", "FSDP2")


def build(way: str) -> nn.Module:
    """The model, the same on every rank, wrapped as this way of training asks for."""
    torch.manual_seed(0)
    model = Gpt(*SIZES["small"])
    if way == "DDP":
        return DistributedDataParallel(model)
    if way == "FSDP2":
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
    return model


def measure(way: str) -> dict[str, float]:
    """The median bare step in milliseconds, and what each kind of DCAO's steps takes in units of it."""
    bare_model, model = build(way), build(way)
    bare = torch.optim.AdamW(bare_model.parameters(), lr=1e-5)
    # Every third step is probed; the first half of these steps is the first quarter of a run.
    optimizer = dcao.DCAO(
        torch.optim.AdamW(model.parameters(), lr=1e-5),
        policy=dcao.policies.Ceiling(total_steps=2 * NUM_STEPS),
        every=lambda step, _: step % 3 == 0,
    )

    def bare_step(tokens: Tensor) -> None:
        bare.zero_grad()
        bare_model(tokens).backward()
        bare.step()

    def own_step(tokens: Tensor) -> None:
        optimizer.minimize(lambda: model(tokens))

    batches = (torch.randint(SIZES["small"][-1], (SEQUENCES, TOKENS)) for _ in range(NUM_STEPS))
    return in_turn(bare_step, own_step, optimizer, batches, NUM_STEPS, lambda: moment(way))


def moment(way: str) -> float:
    """The time at which every rank has come so far."""
    if way != "one process":
        dist.barrier()
    return time.perf_counter()


def on_a_rank(rank: int, folder: str, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=NUM_RANKS, timeout=timedelta(seconds=120)
    )
    try:
        found = {way: measure(way) for way in WAYS[1:]}
        if rank == 0:
            results.update(found)
    finally:
        dist.destroy_process_group()


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    results = {WAYS[0]: measure(WAYS[0])}
    with TemporaryDirectory() as folder, mp.Manager() as manager:
        shared = manager.dict()
        mp.spawn(on_a_rank, args=(folder, shared), nprocs=NUM_RANKS)
        results |= dict(shared)
    print("way, bare step | a step: plain, compared, probed | a run of", *RUNS, "steps | beside one process")
    for way in WAYS:
        costs = results[way]
        added = [overhead(costs, num_steps) for num_steps in RUNS]
        alone = [overhead(results[WAYS[0]], num_steps) for num_steps in RUNS]
        results[way] = costs | {f"run_of_{n}": value for n, value in zip(RUNS, added, strict=True)}
        steps = "  ".join(f"{costs[kind]:.2f}" for kind in ("plain", "compared", "probed"))
        runs = "  ".join(f"{100 * value:+.1f} %" for value in added)
        beside = "  ".join(f"{mine / its:.2f}" for mine, its in zip(added, alone, strict=True))
        print(f"{way}, {costs['bare_ms']:.0f} ms | {steps} | {runs} | {beside}", flush=True)
    write_results("ranks", ways=results)


if __name__ == "__main__":
    main()
