"""How far the gradients of successive batches agree: the share of a gradient that is signal, at no cost.

The cosine between the gradients of two independent batches is 1 without noise, and near 0 where a batch's gradient is
nearly all noise: with a mean gradient G and independent noise of the same length, it is ``|G|^2 / E|g|^2``.

Of embedding tables two batches see few rows in common. That their gradients are at a right angle says nothing about
noise then: a table of 5000 rows, of which a batch saw 500, took the long decay of a run that is nearly all noise, and
ended at a loss of 0.61 instead of 0.45.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dcao.blocks import Entrywise, Vector, blocks, chosen, in_blocks_of
from dcao.layout import WHOLE, Layout, layout_of
from dcao.probing.batch import Batch
from dcao.sums import counted, gram, inner, largest_entry, nonzero_counts

LEAST_IN_COMMON = 0.25
"""Part of two gradients' length that has to lie on weights which both of them move."""

SAFE = (1e-20, 1e30)
"""Squares of lengths between these lose nothing to the range of float32."""


def agreement(batches: Sequence[Batch], past: Vector | None, *, dtype: torch.dtype) -> float | None:
    """Cosine between the gradients of a batch and of the one before, or the mean over pairs of neighbours of several.

    None where there is no second gradient, where one is zero or not finite, or where they move different weights.

    Args:
        batches: Batches with their gradients.
        past: The gradient of the training batch before; None if it is not known.
        dtype: What is computed in.
    """
    gradients: list[Sequence[Tensor]] = [batch.gradient or [] for batch in batches]
    if len(gradients) == 1:
        return agreement_with(past, gradients[0], dtype=dtype)
    vectors = [blocks(gradient, dtype=dtype) for gradient in gradients]
    layout = layout_of(gradients[0])
    cosines = [cosine(left, right, layout) for left, right in pairwise(vectors)]
    mean = sum(cosines) / len(cosines) if cosines else math.nan
    return mean if math.isfinite(mean) else None


def agreement_with(past: Vector | None, gradient: Sequence[Tensor], *, dtype: torch.dtype) -> float | None:
    """The cosine between a gradient and that of the step before; None where that says nothing."""
    before = None if past is None else in_blocks_of(past, gradient, dtype=dtype)
    if before is None:
        return None
    value = cosine(before, blocks(gradient, dtype=dtype), layout_of(gradient))
    return value if math.isfinite(value) else None


def cosine(left: Vector, right: Vector, layout: Layout = WHOLE) -> float:
    """Cosine of the angle between two vectors.

    nan where one of them is zero or not finite, or where less than a quarter of their lengths (the product of two
    shares) lies on entries that are zero in neither.

    Example:
        >>> cosine([torch.tensor([1.0, 0.0])], [torch.tensor([3e30, 3e30])])
        0.707...
        >>> cosine([torch.ones(2), torch.zeros(2)], [torch.zeros(2), torch.ones(2)])  # nothing in common
        nan
    """
    of_left, product, of_right = gram(left, right, layout)
    scales = (1.0, 1.0)
    if not all(SAFE[0] < square < SAFE[1] for square in (of_left, of_right)):
        scales = (largest_entry(left, layout) or 1.0, largest_entry(right, layout) or 1.0)
        of_left, product, of_right = gram(_divided(left, scales[0]), _divided(right, scales[1]), layout)
    if not (of_left > 0.0 and of_right > 0.0):  # also catches nan
        return math.nan
    found = product / math.sqrt(of_left) / math.sqrt(of_right)
    if abs(found) > 1.1 * LEAST_IN_COMMON:  # then more of their lengths is in common, by Cauchy-Schwarz
        return found
    alone = _alone(left, right, scales, layout)
    in_common = math.sqrt(max(0.0, 1.0 - alone[0] / of_left)) * math.sqrt(max(0.0, 1.0 - alone[1] / of_right))
    return found if in_common >= LEAST_IN_COMMON else math.nan


def _alone(left: Vector, right: Vector, scales: tuple[float, float], layout: Layout) -> tuple[float, float]:
    """The squares of two vectors over entries that are zero in the other one."""
    left, right = counted(layout, left, right)
    counts = zip(nonzero_counts(left), nonzero_counts(right), left, strict=True)
    partial = [index for index, (a, b, block) in enumerate(counts) if min(a, b) < block.numel()]
    some = [_divided(chosen(vector, partial), scale) for vector, scale in zip((left, right), scales, strict=True)]
    squares = []
    for own, other in ((some[0], some[1]), (some[1], some[0])):
        alone = Entrywise(lambda a, b: a * (b == 0.0), own, other)
        squares.append(inner(alone, alone) if partial else 0.0)
    of_left, of_right = layout.add_up(squares)
    return of_left, of_right


def _divided(vector: Vector, scale: float) -> Vector:
    return vector if scale == 1.0 else Entrywise(lambda part: part / scale, vector)
