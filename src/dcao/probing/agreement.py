"""How far the gradients of successive batches agree: the share of a gradient that is signal, at no cost.

The cosine between the gradients of two independent batches is 1 without noise, and near 0 where a batch's gradient is
nearly all noise: with a mean gradient G and independent noise of the same length, it is ``|G|^2 / E|g|^2``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dcao.probing.batch import Batch
from dcao.vectors import flatten


def agreement(batches: Sequence[Batch], past: Tensor | None, *, dtype: torch.dtype) -> float | None:
    """Cosine between the gradients of a batch and of the one before, or the mean over pairs of neighbours of several.

    None where there is no second gradient, or where one is zero or not finite.

    Args:
        batches: Batches with their gradients.
        past: The gradient of the training batch before, flat; None if it is not known.
        dtype: What is computed in.
    """
    gradients = [flatten(batch.gradient or [], dtype=dtype) for batch in batches]
    if len(gradients) == 1:
        gradients = [past.to(gradients[0]), *gradients] if past is not None and past.shape == gradients[0].shape else []
    cosines = [cosine(left, right) for left, right in pairwise(gradients)]
    mean = sum(cosines) / len(cosines) if cosines else math.nan
    return mean if math.isfinite(mean) else None


def cosine(left: Tensor, right: Tensor) -> float:
    """Cosine of the angle between two flat vectors; nan where one of them is zero or not finite.

    Example:
        >>> cosine(torch.tensor([1.0, 0.0]), torch.tensor([3e30, 3e30])), cosine(torch.zeros(2), torch.ones(2))
        (0.707..., nan)
    """
    left, right = _of_unit_length(left), _of_unit_length(right)
    return float(torch.dot(left, right))


def _of_unit_length(vector: Tensor) -> Tensor:
    """Divided by its largest entry first, whose square may lie outside the range of the dtype."""
    vector = torch.div(vector, torch.linalg.vector_norm(vector, math.inf))
    return torch.div(vector, torch.linalg.vector_norm(vector))
