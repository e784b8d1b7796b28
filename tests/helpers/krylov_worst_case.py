"""The spectra on which Lanczos does as badly as it can, by docs/theory/curvature-estimation.md."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dcao.operators import LinearOperator
from dcao.spectra.lanczos import lanczos


class Diagonal(LinearOperator):
    """A diagonal matrix in float64."""

    def __init__(self, entries: Tensor) -> None:
        self.entries = entries
        self.size, self.device, self.dtype = len(entries), entries.device, entries.dtype

    def matvec(self, vector: Tensor) -> Tensor:
        return self.entries * vector


def worst_error(weight: float, num_products: int) -> float:
    """Theorem 1: the largest ``(lambda_1 - theta) / (lambda_1 - lambda_n)`` for a start of that weight at the top."""
    angle = math.asinh(math.sqrt((1.0 - weight) / weight))  # sinh of it is the tangent of the angle to the top
    return math.tanh(angle / (2 * num_products - 1)) ** 2


def worst_spectrum(weight: float, num_products: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues in [0, 1] and the start's weight on each, at which that error is attained; the top is first."""
    k = num_products
    E = worst_error(weight, k)
    theta = (2 * torch.arange(1, k + 1, dtype=torch.float64) - 1) * math.pi / (2 * k - 1)  # sin^2((k - 1/2) theta) = 1
    y = E + (1.0 - E) * (1.0 - theta.cos()) / 2.0  # distances from the top
    alternating = torch.tensor([(-1.0) ** j for j in range(k)], dtype=torch.float64)
    p = alternating / (theta / 2.0).sin()
    phi = 2.0 * math.atanh(math.sqrt(E))
    p_at_top = math.sinh((k - 0.5) * phi) / math.sinh(phi / 2.0)
    lagrange = lagrange_at_zero(y)
    weights = E * weight * p_at_top * lagrange / ((y - E) * p)
    return torch.cat([torch.ones(1).double(), 1.0 - y]), torch.cat([torch.tensor([weight]).double(), weights])


def lagrange_at_zero(points: Tensor) -> Tensor:
    """The value at 0 of each polynomial that is 1 at one of the points and 0 at the others."""
    others = [torch.cat([points[:j], points[j + 1 :]]) for j in range(len(points))]
    return torch.stack([(rest / (rest - own)).prod() for rest, own in zip(others, points, strict=True)])


def error(eigenvalues: Tensor, start: Tensor, num_products: int) -> float:
    """What the library's Lanczos misses of the largest, over the spread of the spectrum."""
    theta = lanczos(Diagonal(eigenvalues), start=start, num_steps=num_products).ritz_values[0]
    return ((eigenvalues.max() - theta) / (eigenvalues.max() - eigenvalues.min())).item()


def small_weight(size: int, delta: float) -> float:
    """What the weight of a random start at the top exceeds with probability 1 - delta (Lemma 2)."""
    return delta**2 * math.pi / (2.0 * (size - 1))
