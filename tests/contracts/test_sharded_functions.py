"""Functions that measure without an optimizer of DCAO's, with parameters in shards: as one process does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_module, distribute_tensor

from dcao import DCAO, find_lr, hessian_spectrum, hessian_trace, sharpness, spectral_density
from dcao.operators import GGNOperator, Unsupported
from helpers.several_ranks import on_ranks
from helpers.sharded_runs import Network, data, sharded


def work(rank: int, way: str) -> dict[str, Any]:
    model, rows = sharded(way, Network(torch.float64), rank)
    model.num_calls = 10**9  # so that a loss without an optimizer is the same when it is evaluated again
    x, y = data(30, torch.float64)

    def loss(batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(model(batch[0][rows]), batch[1][rows])

    def first() -> torch.Tensor:
        return loss((x[0], y[0]))

    before = [p.detach().clone() for p in model.parameters()]
    found = find_lr(torch.optim.AdamW(model.parameters(), lr=1e-3), list(zip(x, y, strict=True)), loss)
    after = [p.detach() for p in model.parameters()]
    refusals = []
    for refused in (
        lambda: hessian_spectrum(first, model.parameters(), hvp="exact"),
        lambda: hessian_trace(first, model.parameters(), method="hutch++"),
        lambda: GGNOperator(lambda: model(x[0][rows]), torch.sum, model.parameters()),
    ):
        try:
            refused()
        except (Unsupported, ValueError) as error:
            refusals.append(str(error))
    params = model.parameters
    return {
        "lr": found.lr,
        "is_untouched": all(bool((a == b).all()) for a, b in zip(before, after, strict=True)),
        "spectrum": hessian_spectrum(first, params(), 2, hvp="central").ritz_values,
        "light": spectral_density(first, params(), num_samples=1, num_steps=5, hvp="central").nodes,
        "sharpness": sharpness(first, params(), hvp="central"),
        "trace": hessian_trace(first, params(), num_samples=3, hvp="central").trace,
        "refusals": refusals,
    }


def train_with_sharded_inputs(rank: int, way: str) -> list[tuple[float, float | None]]:
    """lr and s after each step. Where the inputs are in shards, torch leaves gradients as sums that are yet to make."""
    model = Network(torch.float64)
    batches: list[Any] = [*zip(*data(25, torch.float64), strict=True)]
    if way == "shards":
        mesh = init_device_mesh("cpu", (2,))
        distribute_module(model, mesh)
        batches = [[distribute_tensor(part, mesh, [Shard(0)]) for part in batch] for batch in batches]
    optimizer, seen = DCAO(torch.optim.AdamW(model.parameters(), lr=1e-3)), []
    for x, y in batches:
        optimizer.minimize(lambda x=x, y=y: nn.functional.mse_loss(model(x), y))
        seen.append((optimizer.effective_lrs[0], optimizer.last_estimate.s if optimizer.last_estimate else None))
    if way == "shards":
        assert any(placement.is_partial() for p in model.parameters() for placement in p.grad.placements)
    return seen


def work_both(rank: int) -> dict[str, Any]:
    return {**work(rank, "fully_shard"), "sums": train_with_sharded_inputs(rank, "shards")}


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return on_ranks(2, work_both)


def test_gradients_that_are_still_sums_over_the_ranks_are_made_first(ranks):
    # Torch's mean over shards gives twice the gradient here, which moves AdamW by its eps of 1e-8 alone.
    whole = train_with_sharded_inputs(0, "whole")
    assert ranks[0]["sums"] == ranks[1]["sums"]
    torch.testing.assert_close(ranks[0]["sums"], whole, rtol=1e-4, atol=1e-6)


def test_every_rank_measures_what_one_process_does_and_leaves_no_trace(ranks):
    whole = work(0, "whole")
    for name in ("lr", "spectrum", "light", "sharpness", "trace"):
        # Central differences of 1e-5: 1e-16 over that, relative to eigenvalues of 0.2 and more.
        torch.testing.assert_close(ranks[0][name], whole[name], rtol=1e-8, atol=0.0, msg=name)
        torch.testing.assert_close(ranks[1][name], ranks[0][name], rtol=0.0, atol=0.0, msg=name)
    assert all(each["is_untouched"] for each in ranks)


def test_what_needs_double_backward_or_whole_vectors_is_refused(ranks):
    hooks = "double backward does not pass through the hooks that gather sharded parameters"
    for each in ranks:
        exact, factors, gauss_newton = each["refusals"]
        assert exact == gauss_newton == hooks
        assert factors == 'method must be "hutchinson" for parameters in shards; "hutch++" factors whole vectors'
