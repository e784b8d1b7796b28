"""One of two ranks that train replicas of a model; the second one is killed in the middle of a probe."""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from helpers.fault_runs import Job

WORLD, SECONDS = 2, 20
"""Ranks, and after how long a rank that waits for another one gives up."""


class RankJob(Job):
    """The job with half of each batch, in float64; without a process group with all of it.

    Args:
        folder: Where rank 0 saves checkpoints.
        rank: This one; None: there is no other.
    """

    def __init__(self, folder: Path | None, rank: int | None = None) -> None:
        super().__init__(folder if rank in (None, 0) else None)
        self.model.double()
        self.inputs = self.inputs.double()
        self.rank, self.replica = rank, self.model
        if rank is not None:
            self.replica = DistributedDataParallel(self.model)
            self.inputs = self.inputs.unflatten(1, (WORLD, -1))[:, rank]

    def evaluate(self, inputs: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.replica(inputs), inputs[:, :3].argmax(1))


def main(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    limit = timedelta(seconds=SECONDS)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORLD, timeout=limit)
    job = RankJob(folder, rank)
    if rank == 1:
        job.interrupt = lambda: os.kill(os.getpid(), signal.SIGKILL)
    job.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
