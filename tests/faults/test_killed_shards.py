"""A rank that is killed in a probe of sharded parameters: the others end with an error within the limit."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from dcao import DCAO, is_probing, policies
from helpers.sharded_runs import Network, data

LIMIT = 15.0
STEPS = 6


def train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    address, limit = f"file://{folder}/rendezvous", timedelta(seconds=LIMIT)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2, timeout=limit)
    model = fully_shard(Network(torch.float64), mesh=init_device_mesh("cpu", (2,)))
    optimizer = DCAO(torch.optim.SGD(model.parameters(), lr=0.05), policy=policies.Fixed(), every=3)
    for step, (x, y) in enumerate(zip(*data(STEPS, torch.float64), strict=True)):

        def loss_fn(x: torch.Tensor = x, y: torch.Tensor = y, step: int = step) -> torch.Tensor:
            loss = nn.functional.mse_loss(model(x), y)
            if rank == 1 and step == 3 and is_probing():
                os.kill(os.getpid(), signal.SIGKILL)
            return loss

        try:
            optimizer.minimize(loss_fn)
        except RuntimeError as error:
            Path(folder, "error").write_text(f"{optimizer.num_steps} {error}")
            os._exit(3)  # without a farewell to the other rank, which is gone


def test_the_others_end_with_an_error_within_the_limit(tmp_path):
    context = mp.spawn(train, (str(tmp_path),), nprocs=2, join=False)
    survivor, killed = context.processes
    killed.join(60.0)
    assert killed.exitcode == -signal.SIGKILL
    survivor.join(2.0 * LIMIT)  # the limit of one exchange, and a slow machine
    assert survivor.exitcode == 3
    step, _, error = (tmp_path / "error").read_text().partition(" ")
    assert int(step) in (3, 4)  # the probe says that it has failed, and the training step cannot go on
    assert any(sign in error for sign in ("onnection", "closed", "imed out"))
