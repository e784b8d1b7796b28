"""Trainings on two ranks and in one process, forked from a process that has imported the trainer and trained nothing.

Each returns what its probes measured, the lr of each step, and the weights at the end, or the error that it met.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, multiprocessing, nn

from dcao import DCAO, is_probing
from helpers import TESTS

TIMEOUT = timedelta(seconds=60)
"""A rank that waits longer for another one ends with an error."""


class Block(nn.Module):
    """A layer that is gathered by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(9, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).tanh()


def network() -> nn.Sequential:
    """In float64, with sizes that two ranks do not divide."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 9), nn.Tanh(), Block(), Block(), nn.Linear(9, 1)).double()


def examples(count: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, x.sum(dim=1, keepdim=True).sin()


class Watched:
    """A DCAO around AdamW, and what it has done."""

    def __init__(self, params: Iterable[Any]) -> None:
        self.dcao = DCAO(torch.optim.AdamW(params, lr=1e-3))
        self.watch(self.dcao)

    def watch(self, optimizer: DCAO) -> None:
        self.lrs, self.measured, self.failures = list[list[float]](), list[float](), list[str]()
        self.dcao = optimizer
        optimizer.base.register_step_post_hook(self._note)

    def _note(self, base: torch.optim.Optimizer, *_: Any) -> None:
        lrs = [float(group["lr"]) for group in base.param_groups]
        if any(lrs):  # torch.distributed.checkpoint steps once at an lr of 0, to have a state to load into
            self.lrs.append(lrs)
            estimate = self.dcao.last_estimate
            if estimate is not None and estimate.s is not None:  # none before the first probe of a resumed run
                self.measured.append(estimate.s)
            elif estimate is not None:
                self.failures.append(estimate.reason)

    def result(self, model: nn.Module) -> dict[str, Any]:
        weights = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
        flat = torch.cat([w.detach().flatten() for w in weights])
        return {"lrs": self.lrs, "measured": self.measured, "failures": self.failures, "weights": flat}

    def fail(self, rank: int) -> None:
        """Raise in one probe of the second rank, as where its memory does not suffice."""
        if rank == 1 and is_probing() and self.dcao.num_steps == 5:
            raise RuntimeError("no memory")


Trainings = dict[str, Callable[[int, Path], dict[str, Any]]]
"""By name; each is given the number of ranks, and a folder that they share."""


def train_on_two_and_on_one(trainings: Trainings, folder: Path) -> None:
    """Write ``{rank}_of_{ranks}.pt`` into the folder, which has the results by name."""
    for ranks in (2, 1):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = folder / f"on_{ranks}"
        shared.mkdir()
        arguments = (ranks, port, trainings, folder, shared)
        multiprocessing.start_processes(_one_rank, args=arguments, nprocs=ranks, start_method="fork")


def _one_rank(rank: int, ranks: int, port: int, trainings: Trainings, folder: Path, shared: Path) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), **address}
        # Lightning then takes the processes to be those of torchrun, and starts none itself.
        os.environ |= {"LOCAL_WORLD_SIZE": str(ranks), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    results = {name: training(ranks, shared) for name, training in trainings.items()}
    torch.save(results, folder / f"{rank}_of_{ranks}.pt")


def message_of(attempt: Callable[[], Any]) -> str:
    """What the ValueError says that ``attempt`` raises; empty if it raises none."""
    try:
        attempt()
    except ValueError as error:
        return str(error)
    return ""


def results_of(script: str, folder: Path) -> list[dict[str, Any]]:
    """What a script of this folder has found: on ranks 0 and 1 of 2, and in one process."""
    command = [sys.executable, "-W", "ignore", "-m", f"helpers.{script}", str(folder)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [torch.load(folder / f"{name}.pt") for name in ("0_of_2", "1_of_2", "0_of_1")]


def assert_alike_bit_for_bit(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["lrs"] == second["lrs"]
    assert first["measured"] == second["measured"]
    assert torch.equal(first["weights"], second["weights"])


def assert_same_run(sharded: dict[str, Any], whole: dict[str, Any]) -> None:
    """But for sums in another order: 1e-16 each in float64, over 22 steps and through Adam's square roots."""
    assert len(sharded["lrs"]) >= 11
    torch.testing.assert_close(sharded["lrs"], whole["lrs"], rtol=1e-10, atol=0.0)
    torch.testing.assert_close(sharded["weights"], whole["weights"], rtol=0.0, atol=1e-12)
    # One-sided differences of 2e-8: 1e-16 over that, relative to an s of 0.001 and more.
    torch.testing.assert_close(sharded["measured"], whole["measured"], rtol=1e-5, atol=0.0)
    torch.testing.assert_close(sharded.get("logged", []), whole.get("logged", []), rtol=1e-10, atol=0.0)


def assert_fails_together(first: dict[str, Any], second: dict[str, Any]) -> None:
    """A probe does, and the training goes on."""
    assert_alike_bit_for_bit(first, second)
    assert first["failures"] != []
    failed = "the probe failed: "
    assert set(first["failures"]) == {f"{failed}FailedElsewhere: the loss could not be evaluated on another rank"}
    assert set(second["failures"]) == {f"{failed}RuntimeError: no memory"}


def assert_goes_on_bit_for_bit(resumed: dict[str, Any], whole: dict[str, Any]) -> None:
    assert resumed["lrs"] == whole["lrs"][-len(resumed["lrs"]) :]
    assert torch.equal(resumed["weights"], whole["weights"])
