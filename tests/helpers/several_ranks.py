"""Several real processes that talk over gloo: what a function returns on each of them."""

import gc
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

TIMEOUT = timedelta(seconds=60)
"""A process that waits longer for another one ends with an error, so that a deadlock fails and does not hang."""


def on_ranks(world, function, *args, timeout=TIMEOUT):
    """What ``function(rank, *args)`` returns on each of ``world`` ranks; it has to be importable."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_run, (world, folder, timeout, function, args), nprocs=world)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _run(rank, world, folder, timeout, function, args):
    torch.set_num_threads(1)
    gc.freeze()  # a probe looks for the model among the collector's objects: not among those of imported packages
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=timeout
    )
    result = function(rank, *args)
    torch.save(result, f"{folder}/{rank}.pt")
    gc.collect()  # models hold the process group; one that outlives the interpreter aborts the process
    dist.barrier()
    dist.destroy_process_group()
