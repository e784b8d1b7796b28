"""Mini-batch curvature along the optimizer's own step: the measures ``batch`` and ``load``.

With ``d_B = eta_eff P^-1 g_B``, the displacement that a batch's gradient leads to in the long run, and ``d_A`` the
same of an independent batch (the training batch before, or the other batches of the probe),

    batch  = sum_B d_B' H_B d_B / sum_B g_B' d_B
    signal = mean over A of sum_B d_A' H_B d_B / sum_B g_B' d_B        noise = batch - signal

One product a batch: with the training batch's own gradient and a one-sided difference, one extra gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Directional:
    """Stability numbers along the step, and what is wrong with them, if anything.

    Attributes:
        total: Stability number ``batch``, which takes no account of momentum; ``inf`` where the gradient one step away
            is not finite.
        signal: Part of it that successive batches share.
        length: ``||d_B||``, the mean over the batches.
        trust: 0 where the number means nothing, else 1.
        reason: Why it is not trusted.
    """

    total: float
    signal: float
    length: float = 0.0
    trust: float = 1.0
    reason: str = ""

    @property
    def noise(self) -> float:
        """The rest of ``total``."""
        return self.total - self.signal


@dataclass(frozen=True, kw_only=True)
class StepVectors:
    """One batch's gradient and displacements, flat.

    Attributes:
        gradient: ``g_B``.
        displacement: ``d_B``; the coming step goes along minus this.
        past: ``d_A`` of the batch before; None where it is not known.
        product: ``H_B`` times a vector.
        weight: Size of the batch.
    """

    gradient: Tensor
    displacement: Tensor
    past: Tensor | None
    product: Callable[[Tensor], Tensor]
    weight: float


def directional(batches: Sequence[StepVectors]) -> Directional:
    """The measures over one batch, or over several, which serve as each other's past.

    Example:
        >>> g = torch.tensor([1.0, 2.0])  # of a quadratic with curvature 3, with lr 0.5
        >>> one = StepVectors(gradient=g, displacement=0.5 * g, past=0.5 * g, product=lambda v: 3.0 * v, weight=1.0)
        >>> directional([one])
        Directional(total=1.5, signal=1.5, length=1.118..., trust=1.0, reason='')
    """
    slope = curvature = signal = length = 0.0
    for index, batch in enumerate(batches):
        length += float(torch.linalg.vector_norm(batch.displacement)) / len(batches)
        product = batch.product(batch.displacement)
        past = _mean_of_others(batches, index) if len(batches) > 1 else batch.past
        slope += batch.weight * dot(batch.gradient, batch.displacement)
        curvature += batch.weight * dot(batch.displacement, product)
        signal += batch.weight * dot(past, product) if past is not None else 0.0
    return replace(_judge(slope, curvature, signal), length=length)


def dot(left: Tensor, right: Tensor) -> float:
    """Inner product of two flat vectors."""
    return float(torch.dot(left, right))


def _mean_of_others(batches: Sequence[StepVectors], index: int) -> Tensor:
    others = [batch for position, batch in enumerate(batches) if position != index]
    mean = torch.zeros_like(others[0].displacement)
    total = sum(batch.weight for batch in others)
    for batch in others:
        mean.add_(batch.displacement, alpha=batch.weight / total)
    return mean


def _judge(slope: float, curvature: float, signal: float) -> Directional:
    if not math.isfinite(slope):
        return Directional(total=math.nan, signal=0.0, trust=0.0, reason="the gradient is not finite")
    if not slope > 0.0:
        return Directional(
            total=math.nan, signal=0.0, trust=0.0, reason="there is no step: the gradient is zero, or lr is 0"
        )
    if not (math.isfinite(curvature) and math.isfinite(signal)):
        return Directional(total=math.inf, signal=0.0, reason="the gradient one step away is not finite")
    return Directional(total=curvature / slope, signal=signal / slope)
