"""Vectors in blocks, against the same entries in one flat float64 vector."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dcao.blocks import (
    PART,
    SMALL,
    Entrywise,
    add_to,
    blocks,
    chosen,
    constant_blocks,
    cut,
    in_blocks_of,
    joined,
    parts_of,
    pieces_of,
    spans,
)
from dcao.sums import gram, inner, inner_products, joint_norm, largest_entry, nonzero_counts
from dcao.vectors import as_real


def tensors_of(kind: str, seed: int = 0) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    shapes = {
        "small": [(3, 4), (), (5,)],
        "large": [(2, PART // 2 + 3), (7,), (SMALL + 1,), (0,), (2, 2)],
        "complex": [(3,), (SMALL, 2)],
        "transposed": [(40, 500), (3, 2)],
        "half": [(130, 130), (3,), (SMALL + 5,)],
    }[kind]
    tensors = [torch.randn(shape, generator=draws) for shape in shapes]
    if kind == "complex":
        return [torch.complex(each, each.flip(0) + 1.0) for each in tensors]
    if kind == "transposed":
        return [each.T for each in tensors]
    return [each.bfloat16() for each in tensors] if kind == "half" else tensors


KINDS = ["small", "large", "complex", "transposed", "half"]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([as_real(each).reshape(-1).double() for each in tensors])


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_hold_the_entries_in_order(kind):
    tensors = tensors_of(kind)
    vector = blocks(tensors)
    read = torch.cat([part for (part,) in parts_of(vector)])
    assert torch.equal(read.double(), flat(tensors))
    assert read.dtype is torch.float32
    assert max(len(part) for (part,) in parts_of(vector)) <= PART
    assert torch.equal(joined(vector, tensors, dtype=torch.float64, device=torch.device("cpu")), flat(tensors))
    for piece, tensor in zip(pieces_of(vector, tensors), tensors, strict=True):
        assert torch.equal(piece.float(), as_real(tensor).float())


@pytest.mark.parametrize("kind", KINDS)
def test_a_flat_vector_is_cut_into_the_blocks_of_its_tensors(kind):
    tensors = tensors_of(kind)
    for vector in (cut(flat(tensors), tensors), in_blocks_of([flat(tensors)], tensors, dtype=torch.float64)):
        assert [len(block) for block in vector] == [len(block) for block in blocks(tensors)]
        assert torch.equal(torch.cat(vector), flat(tensors))
    assert in_blocks_of([flat(tensors)[1:]], tensors, dtype=torch.float64) is None


def test_large_blocks_are_the_tensors_own_memory_and_small_neighbours_are_copied():
    tensors = [torch.ones(2), torch.ones(3), torch.ones(SMALL + 1), torch.ones(1)]
    shared, own, last = blocks(tensors)
    assert own.data_ptr() == tensors[2].data_ptr()
    assert shared.data_ptr() != tensors[0].data_ptr()
    assert [len(each) for each in (shared, own, last)] == [5, SMALL + 1, 1]
    assert spans([torch.ones(SMALL)] * (PART // SMALL + 1))[0] == slice(0, PART // SMALL)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_the_flat_vector(kind):
    one, two = tensors_of(kind), tensors_of(kind, seed=1)
    a, b = flat(one), flat(two)
    left, right = blocks(one), blocks(two)
    # Sums of n products in float32 err by less than 1e-6 of their lengths' product, for n below 1e6.
    allowed = 1e-6 * float(a.norm() * b.norm())
    assert inner(left, right) == pytest.approx(float(a @ b), abs=allowed)
    assert inner_products(left, [right, left]) == [inner(left, right), inner(left, left)]
    assert gram(left, right) == (inner(left, left), inner(left, right), inner(right, right))
    # A norm adds up n squares in 8 lanes: for n = 2^18 that is sqrt(n / 8) = 181 roundings of 2^-24 at random, 1e-5.
    assert joint_norm(left) == pytest.approx(float(a.norm()), rel=1e-5)
    assert joint_norm(one) == pytest.approx(float(a.norm()), rel=1e-5)
    assert largest_entry(left) == float(a.abs().max())
    assert sum(nonzero_counts(left)) == int(a.count_nonzero())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_entry_by_entry_is_made_where_it_is_read(kind):
    one, two = tensors_of(kind), tensors_of(kind, seed=1)
    product = Entrywise(torch.mul, blocks(one), blocks(two))
    a, b = flat(one), flat(two)
    allowed = 1e-6 * float((a * b).norm() * b.norm())
    assert inner(product, blocks(two)) == pytest.approx(float((a * b) @ b), abs=allowed)
    last = len(product) - 1
    assert joint_norm(chosen(product, [last])) == joint_norm([product[last]])
    nested = Entrywise(lambda part: part / 2.0, product)
    assert largest_entry(nested) == largest_entry(product) / 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_adding_to_tensors_writes_where_they_are(kind):
    tensors, vector = tensors_of(kind), blocks(tensors_of(kind, seed=1))
    before, addresses = flat(tensors), [each.data_ptr() for each in tensors]
    versions = [each._version for each in tensors]
    add_to(tensors, vector, -0.5)
    expected = before - 0.5 * flat(tensors_of(kind, seed=1))
    # one rounding to the tensors' dtype: 2^-24 of float32, 2^-9 of bfloat16, of numbers below 8
    allowed = 8.0 * (2.0**-9 if kind == "half" else 2.0**-24)
    torch.testing.assert_close(flat(tensors), expected, rtol=0.0, atol=allowed)
    assert [each.data_ptr() for each in tensors] == addresses
    assert [each._version for each in tensors] == versions


def test_constants_take_the_memory_of_one_entry_a_block():
    like = [torch.ones(2), torch.ones(3), torch.ones(SMALL + 1)]
    same = constant_blocks([0.5, 0.5, 2.0], like, dtype=torch.float64)
    assert [each.untyped_storage().nbytes() for each in same] == [8, 8]
    assert torch.cat(same).unique().tolist() == [0.5, 2.0]
    different = constant_blocks([0.5, 1.0, 2.0], like, dtype=torch.float64)
    assert different[0].tolist() == [0.5, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_lost(value):
    vector = [torch.ones(3), torch.tensor([1.0, value])]
    assert not math.isfinite(inner(vector, vector))
    assert not math.isfinite(joint_norm(vector))
    assert not math.isfinite(largest_entry(vector))
    assert math.isnan(largest_entry([torch.tensor([math.nan]), torch.tensor([2.0])]))


def test_lengths_outside_the_range_of_squares_are_found():
    # A norm in float32 squares in float32 on some machines; the sum over blocks is in double precision.
    assert joint_norm([torch.tensor([3e18]), torch.tensor([4e18])]) == pytest.approx(5e18, rel=1e-6)
    assert largest_entry([torch.tensor([-3e38, 1.0])]) == pytest.approx(3e38, rel=1e-6)


def test_sparse_tensors_are_read_as_dense_ones():
    table = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(blocks([table.to_sparse()])[0], table.flatten())
