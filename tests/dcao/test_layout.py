"""Vectors in shards: each entry counts once, wherever it lies, and random ones do not depend on the ranks."""

import math
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor

from dcao import DCAO, policies
from dcao.blocks import Entrywise, blocks
from dcao.draws import random_in
from dcao.layout import WHOLE, layout_of
from dcao.shards import gradients_of
from dcao.sums import gram, inner_products, joint_length, joint_norm, largest_entry, num_nonzero
from dcao.vectors import flatten, norms_of, random_vector, seeded
from helpers.several_ranks import on_ranks
from helpers.sharded_runs import BATCH, Network, data, sharded

WORLD = 4


def wholes() -> list[Tensor]:
    generator = seeded(5)
    shapes = [(5, 3), (4, 6), (7,), (3,), (2, 3), (1,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def spread() -> list[Tensor]:
    """The same tensors on a mesh of two by two: uneven, along one dimension, along both, copied, and not at all."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    placements = [[Shard(0), Shard(1)], [Replicate(), Shard(1)], [Shard(0), Replicate()], [Shard(0), Shard(0)]]
    *first, plain, single = wholes()
    spread = [distribute_tensor(each, mesh, where) for each, where in zip(first, placements, strict=True)]
    return [*spread, plain, distribute_tensor(single, mesh["b"], [Shard(0)])]


def numbers(tensors: list[Tensor], others: list[Tensor]) -> dict[str, Any]:
    layout = layout_of(tensors)
    u, v = flatten(tensors), flatten(others)
    first, second = blocks(tensors), blocks(others)
    return {
        "total": layout.total(len(u)),
        "dot": float(layout.dot(u, v)),
        "inner": inner_products(first, [second, first], layout),
        "gram": gram(first, second, layout),
        "greatest": largest_entry(first, layout),
        "norm": float(layout.norm(u)),
        "largest": float(layout.largest(u)),
        "products": layout.products(torch.stack([u, v]), v).tolist(),
        "nonzero": num_nonzero(Entrywise(lambda part: part * (part > 0.0), first), layout),
        "norms": norms_of(tensors).tolist(),
        "joint": [joint_norm(first, layout), joint_length(tensors)],
    }


def draws(tensors: list[Tensor]) -> dict[str, Tensor]:
    layout, size = layout_of(tensors), len(flatten(tensors))
    return {
        kind: random_in(layout, size, kind=kind, generator=seeded(7), dtype=torch.float64)
        for kind in ("gaussian", "rademacher")
    }


def count_sums(rank: int) -> list[int]:
    """Sums over the ranks that DCAO asks for in each step."""
    num, real = [0], dist.all_reduce

    def counting(*args: Any, **kwargs: Any) -> Any:
        num[0] += 1
        return real(*args, **kwargs)

    model, _ = sharded("hybrid", Network(torch.float64), rank)
    base = torch.optim.AdamW(model.parameters(), lr=1e-3)
    optimizer = DCAO(base, policy=policies.Fixed(), guard=True, every=3)
    rows, counts = slice(rank * BATCH // WORLD, (rank + 1) * BATCH // WORLD), []
    dist.all_reduce = counting
    try:
        for x, y in zip(*data(5, torch.float64), strict=True):
            num[0] = 0
            optimizer.minimize(lambda x=x, y=y: torch.nn.functional.mse_loss(model(x[rows]), y[rows]))
            counts.append(num[0])
    finally:
        dist.all_reduce = real
    return counts


def work(rank: int) -> Any:
    tensors = spread()
    found = numbers(tensors, [tensor * 2.0 + 1.0 for tensor in tensors])
    partial = torch.distributed.tensor.DTensor.from_local(
        torch.ones(2, dtype=torch.float64) * (rank + 1.0), init_device_mesh("cpu", (WORLD,)), [Partial()]
    )
    weight = torch.nn.Parameter(distribute_tensor(torch.ones(2).double(), partial.device_mesh, [Replicate()]))
    weight.grad = partial
    parts = {kind: torch.equal(part, flatten(as_shards(kind, tensors))) for kind, part in draws(tensors).items()}
    return found, joint_length(gradients_of([weight])), parts, count_sums(rank)


def as_shards(kind: str, tensors: list[Tensor]) -> list[Tensor]:
    """A random vector drawn at once, and cut by torch."""
    whole = random_vector(sum(t.numel() for t in tensors), kind=kind, generator=seeded(7), dtype=torch.float64)
    pieces = torch.split(whole, [t.numel() for t in tensors])
    return [
        distribute_tensor(piece.view(t.shape), t.device_mesh, t.placements) if hasattr(t, "device_mesh") else piece
        for piece, t in zip(pieces, tensors, strict=True)
    ]


@pytest.fixture(scope="module")
def found() -> list[Any]:
    return on_ranks(WORLD, work)


def test_numbers_are_those_of_the_whole_tensors_on_every_rank(found):
    whole = wholes()
    expected = numbers(whole, [tensor * 2.0 + 1.0 for tensor in whole])
    assert layout_of(whole) is WHOLE
    for numbers_here, _, _, _ in found:
        assert numbers_here == found[0][0]  # bit for bit
        for name, value in expected.items():
            torch.testing.assert_close(numbers_here[name], value, rtol=1e-14, atol=0.0, msg=name)  # another order


def test_sums_that_are_still_spread_over_the_ranks_are_made_first(found):
    assert all(norm == pytest.approx((1 + 2 + 3 + 4) * math.sqrt(2.0), rel=1e-15) for _, norm, _, _ in found)


def test_random_vectors_are_cut_from_the_one_that_a_single_process_draws(found):
    assert all(parts == {"gaussian": True, "rademacher": True} for _, _, parts, _ in found)


def test_a_step_adds_one_sum_over_the_ranks_and_a_probe_a_few(found):
    """Of one number or a few, beside what the gradients need: two in a backward pass on this mesh, one a layer's group.

    A step: the guard's. A probe: 2 for what has become of the gradient since backward and 2 for the losses, 1 whether
    all know where evaluations start, 1 for the length of the step and its slope, 1 for the weights that move, 1 whether
    all could evaluate the product, 1 for inner products with it, 1 for the agreement with the step before.
    """
    for *_, counts in found:
        assert counts[1] == counts[2] == counts[4] == 2 + 1
        assert counts[3] == 2 + 1 + 2 + 10
