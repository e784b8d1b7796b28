"""Numbers from vectors in blocks: inner products, lengths, counts.

Of vectors over tensors that are spread over ranks these are the numbers of the whole vectors, the same on every rank,
if they are given the layout (:mod:`dcao.layout`); without one, of what is in this process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dcao.blocks import Vector, blocks, chosen, parts_of, spans
from dcao.layout import WHOLE, Layout, ShardedLayout, layout_of


def inner(left: Vector, right: Vector, layout: Layout = WHOLE) -> float:
    """The inner product of two vectors.

    Example:
        >>> inner([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
        11.0
    """
    return inner_products(left, [right], layout)[0]


def inner_products(vector: Vector, others: Sequence[Vector], layout: Layout = WHOLE) -> list[float]:
    """The inner products of a vector with several, for which the entries are gone through once.

    Example:
        >>> ones = [torch.ones(2)]
        >>> inner_products(ones, [ones, [torch.tensor([3.0, 4.0])]])
        [2.0, 7.0]
    """
    vector, *others = counted(layout, vector, *others)
    products = [torch.dot(part, other) for part, *rest in parts_of(vector, *others) for other in rest]
    values = numbers(products)
    return layout.add_up([sum(values[first :: len(others)]) for first in range(len(others))])


def gram(left: Vector, right: Vector, layout: Layout = WHOLE) -> tuple[float, float, float]:
    """The inner products of two vectors: left with left, left with right, right with right.

    Example:
        >>> gram([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])])
        (5.0, 11.0, 25.0)
    """
    pairs = ((0, 0), (0, 1), (1, 1))
    left, right = counted(layout, left, right)
    values = numbers(torch.dot(row[i], row[j]) for row in parts_of(left, right) for i, j in pairs)
    squares, products, others = layout.add_up([sum(values[first::3]) for first in range(3)])
    return squares, products, others


def joint_norm(vector: Vector, layout: Layout = WHOLE) -> float:
    """Euclidean length of all entries together, computed in float32 or wider; of tensors of any kind, too.

    Example:
        >>> joint_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
        5.0
    """
    (vector,) = counted(layout, vector)
    here = math.hypot(*numbers(torch.linalg.vector_norm(part) for (part,) in parts_of(vector)))
    return here if layout is WHOLE else math.sqrt(layout.add_up([here * here])[0])


def joint_length(tensors: Sequence[Tensor]) -> float:
    """Euclidean length of all entries of some tensors together, those on other ranks included.

    Example:
        >>> joint_length([torch.tensor([3.0]), torch.tensor([[4.0]])])
        5.0
    """
    layout = layout_of(tensors)
    return joint_norm(tensors if layout is WHOLE else blocks(tensors), layout)


def largest_entry(vector: Vector, layout: Layout = WHOLE) -> float:
    """The largest absolute value; nan if there is one, or infinite over several ranks.

    Example:
        >>> largest_entry([torch.tensor([1.0, -3.0]), torch.tensor([2.0])])
        3.0
    """
    # Not by an infinity norm, which takes a CPU ten times as long.
    ends = [torch.stack(torch.aminmax(part)).abs_().amax() for (part,) in parts_of(vector) if part.numel()]
    values = numbers(ends)
    return layout.greatest(math.nan if any(map(math.isnan, values)) else max(values, default=0.0))


def num_nonzero(vector: Vector, layout: Layout = WHOLE) -> int:
    """How many entries are not zero.

    Example:
        >>> num_nonzero([torch.tensor([1.0, 0.0]), torch.tensor([-1.0])])
        2
    """
    return int(layout.add_up([sum(nonzero_counts(*counted(layout, vector)))])[0])


def nonzero_counts(vector: Vector) -> list[int]:
    """How many entries of each block are not zero, in this process.

    Example:
        >>> nonzero_counts([torch.tensor([1.0, 0.0]), torch.tensor([-1.0])])
        [1, 1]
    """
    each = [chosen(vector, [index]) for index in range(len(vector))]
    by_block = [[torch.count_nonzero(part) for (part,) in parts_of(block)] for block in each]
    values = iter(numbers(count for counts in by_block for count in counts))
    return [sum(int(next(values)) for _ in counts) for counts in by_block]


def counted(layout: Layout, *vectors: Vector) -> list[Vector]:
    """Vectors without the blocks that this process does not count."""
    if not isinstance(layout, ShardedLayout) or all(layout.counts):
        return list(vectors)
    indices = [index for index, span in enumerate(spans(layout.tensors)) if layout.counts[span.start]]
    different = {id(vector): chosen(vector, indices) for vector in vectors}  # the same ones stay the same
    return [different[id(vector)] for vector in vectors]


def numbers(scalars: Iterable[Tensor]) -> list[float]:
    """Tensors of one entry as numbers; an accelerator is waited for once."""
    found = list(scalars)
    if all(each.device.type == "cpu" for each in found):
        return [float(each) for each in found]
    return torch.stack([each.to(found[0].device, torch.float64) for each in found]).tolist()
