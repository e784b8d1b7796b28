"""What a batch's gradient and displacement say about the curvature along the step, as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dcao.blocks import Entrywise, Vector
from dcao.layout import WHOLE, Layout
from dcao.sums import inner_products

SAFE_EXPONENT = 30
"""Numbers between 2**-30 and 2**30 have squares, and sums of squares, well inside float32."""

NO_STEP = "there is no step: the gradient is zero, or lr is 0"


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

    def per_clip(self, clip: float) -> Directional:
        """The numbers as they would be without a clip to this share of the gradient's length."""
        return self if clip == 1.0 else replace(self, total=self.total / clip, signal=self.signal / clip)

    @property
    def natural_length(self) -> float:
        """The distance along the step to where the loss of the batch is back at its present value, on a quadratic."""
        return 2.0 * self.length / abs(self.total) if self.total else math.inf


@dataclass(frozen=True, kw_only=True)
class StepVectors:
    """One batch's gradient and displacements.

    Attributes:
        gradient: ``g_B``.
        displacement: ``d_B``; the coming step goes along minus this.
        past: ``d_A`` of the batch before; None where it is not known.
        product: ``H_B`` times a vector, from that and its length.
        weight: Size of the batch.
        exponents: Powers of two that gradient and displacements have been divided by.
        length: Length of the displacement that the step takes, where it is not ``d_B``.
        layout: Where the entries of the vectors are.
    """

    gradient: Vector
    displacement: Vector
    past: Vector | None
    product: Callable[[Vector, float], Vector]
    weight: float
    exponents: tuple[int, int] = (0, 0)
    length: float | None = None
    layout: Layout = WHOLE

    @cached_property
    def square_and_slope(self) -> tuple[float, float]:
        """``d_B'd_B`` and ``g_B'd_B``, divided as these are."""
        square, slope = inner_products(self.displacement, [self.displacement, self.gradient], self.layout)
        return square, slope

    @property
    def is_safe(self) -> bool:
        """Whether these numbers are well inside the range of float32."""
        return all(4.0**-SAFE_EXPONENT < abs(each) < 4.0**SAFE_EXPONENT for each in self.square_and_slope)


def directional(batches: Sequence[StepVectors]) -> Directional:
    """The measures over one batch, or over several, which serve as each other's past.

    Example:
        >>> g, d = [torch.tensor([1.0, 2.0])], [torch.tensor([0.5, 1.0])]  # with lr 0.5, of a quadratic of curvature 3
        >>> one = StepVectors(gradient=g, displacement=d, past=d, product=lambda v, _: [3.0 * v[0]], weight=1.0)
        >>> directional([one])
        Directional(total=1.5, signal=1.5, length=1.118..., trust=1.0, reason='')
    """
    slope = curvature = signal = 0.0
    for index, batch in enumerate(batches):
        of_gradient, unit = batch.exponents
        product = batch.product(batch.displacement, math.sqrt(batch.square_and_slope[0]))
        past = _mean_of_others(batches, index) if len(batches) > 1 else batch.past
        # Both in one go, for which the difference of the gradients is made once.
        other = batch.displacement if past is None else past
        along, with_past = inner_products(product, [batch.displacement, other], batch.layout)
        slope += batch.weight * times_power(batch.square_and_slope[1], of_gradient + unit)
        curvature += batch.weight * times_power(along, 2 * unit)
        signal += batch.weight * times_power(with_past, 2 * unit) if past is not None else 0.0
    return replace(_judge(slope, curvature, signal), length=mean_length(batches))


def mean_length(batches: Sequence[StepVectors]) -> float:
    """``||d_B||``, the mean over the batches."""
    length = 0.0
    for batch in batches:
        own = times_power(math.sqrt(batch.square_and_slope[0]), batch.exponents[1])
        length += (own if batch.length is None else batch.length) / len(batches)
    return length


def times_power(value: float, exponent: int) -> float:
    """``value * 2**exponent``; infinite where that is too large for a number."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def _mean_of_others(batches: Sequence[StepVectors], index: int) -> Vector:
    """In the power of two of batch ``index``."""
    others = [batch for position, batch in enumerate(batches) if position != index]
    total = sum(batch.weight for batch in others)
    shares = [times_power(batch.weight / total, batch.exponents[1] - batches[index].exponents[1]) for batch in others]

    def mean(*parts: Tensor) -> Tensor:
        return torch.stack([part * share for part, share in zip(parts, shares, strict=True)]).sum(dim=0)

    return Entrywise(mean, *(batch.displacement for batch in others))


def _judge(slope: float, curvature: float, signal: float) -> Directional:
    if not math.isfinite(slope):
        return Directional(total=math.nan, signal=0.0, trust=0.0, reason="the gradient is not finite")
    if slope < 0.0:
        return Directional(total=math.nan, signal=0.0, trust=0.0, reason="the step leads up the loss that is measured")
    if not slope > 0.0:
        return Directional(total=math.nan, signal=0.0, trust=0.0, reason=NO_STEP)
    if not (math.isfinite(curvature) and math.isfinite(signal)):
        return Directional(total=math.inf, signal=0.0, reason="the gradient one step away is not finite")
    return Directional(total=curvature / slope, signal=signal / slope)
