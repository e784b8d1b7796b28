"""Gradients of sharded parameters that are accumulated, with and without communication, are measured as whole ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from dcao import DCAO, policies
from helpers.several_ranks import on_ranks
from helpers.sharded_runs import Network, data, sharded

STEPS = 6


def mse(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.mse_loss(model(x), y)


class Job:
    """A network, whole or in the shards of a rank, that is measured at every second step."""

    def __init__(self, rank: int, way: str) -> None:
        self.model, self.rows = sharded(way, Network(torch.float64), rank)
        self.optimizer = DCAO(
            torch.optim.AdamW(self.model.parameters(), lr=1e-2), policy=policies.Fixed(), every=2, guard=False
        )
        self.batches = [(x[self.rows], y[self.rows]) for x, y in zip(*data(STEPS, torch.float64), strict=True)]

    def synchronize(self, flag: bool) -> None:
        """Whether the coming backward passes reduce gradients to the shards."""
        if hasattr(self.model, "set_requires_gradient_sync"):
            self.model.set_requires_gradient_sync(flag)

    def measured(self) -> tuple[float, str]:
        estimate = self.optimizer.last_estimate
        return estimate.s, estimate.reason


def by_closures(rank: int, way: str, set_to_none: bool | None) -> list[tuple[float, str]]:
    """Closures that zero the gradients in one way or the other, or (None) add to those of the step before."""
    job, seen = Job(rank, way), []

    def closure() -> torch.Tensor:
        if set_to_none is not None:
            job.optimizer.zero_grad(set_to_none)
        loss = mse(job.model, x, y)
        loss.backward()
        return loss

    for x, y in job.batches:  # noqa: B007  # the closure reads them
        job.optimizer.step(closure)
        seen.append(job.measured())
    return seen


def by_hand(rank: int, way: str, *, stays_off: bool) -> list[tuple[float, str]]:
    """Two micro-batches a step, the first without communication, and a probe of the first in between.

    If it ``stays_off``, communication is off too while the optimizer steps, as Lightning Fabric leaves it.
    """
    job, seen = Job(rank, way), []
    for first, second in zip(job.batches[::2], job.batches[1::2], strict=True):
        job.optimizer.zero_grad()
        job.synchronize(False)
        mse(job.model, *first).backward()
        job.optimizer.probe(partial(mse, job.model, *first))
        seen.append(job.measured())
        job.synchronize(True)
        mse(job.model, *second).backward()
        job.synchronize(not stays_off)
        both = [partial(mse, job.model, *first), partial(mse, job.model, *second)]
        job.optimizer.probe_if_due(both)
        seen.append(job.measured())
        job.optimizer.step()
    weights = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in job.model.parameters()]
    return [*seen, *((float(w.detach().sum()), "") for w in weights)]


def by_half_a_closure(rank: int, way: str) -> list[tuple[float, str]]:
    """A closure with the second micro-batch, after a first one without communication."""
    job, seen = Job(rank, way), []

    def closure() -> torch.Tensor:
        loss = mse(job.model, *second)
        loss.backward()
        return loss

    for first, second in zip(job.batches[::2], job.batches[1::2], strict=True):  # noqa: B007  # the closure reads it
        job.optimizer.zero_grad()
        job.synchronize(False)
        mse(job.model, *first).backward()
        job.synchronize(True)
        job.optimizer.step(closure)
        seen.append(job.measured())
    return seen


CASES: dict[str, Any] = {
    "zeroed": lambda rank, way: by_closures(rank, way, True),
    "zeroed-in-place": lambda rank, way: by_closures(rank, way, False),
    "added-to": lambda rank, way: by_closures(rank, way, None),
    "without-communication": lambda rank, way: by_hand(rank, way, stays_off=False),
    "half-in-a-closure": by_half_a_closure,
    "communication-stays-off": lambda rank, way: by_hand(rank, way, stays_off=True),
}


def work(rank: int) -> dict[str, Any]:
    return {name: case(rank, "fully_shard") for name, case in CASES.items()}


@pytest.fixture(scope="module")
def on_two() -> list[dict[str, Any]]:
    return on_ranks(2, work)


@pytest.mark.parametrize("name", CASES)
def test_what_is_accumulated_in_shards_is_measured_as_in_one_process(name, on_two):
    first, second = (seen[name] for seen in on_two)
    assert first == second
    whole = CASES[name](0, "whole")
    assert [reason for _, reason in first] == [reason for _, reason in whole]
    # One-sided differences of 2e-8: 1e-16 over that, relative to an s of 0.01 and more.
    torch.testing.assert_close([s for s, _ in first], [s for s, _ in whole], rtol=1e-6, atol=1e-8)
