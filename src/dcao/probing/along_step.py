"""Mini-batch curvature along the optimizer's own step: the measures ``batch`` and ``load``.

With ``d_B = eta_eff P^-1 g_B``, the displacement that a batch's gradient leads to in the long run, and ``d_A`` the
displacement of an independent batch (the training batch before, or the other batches of the probe),

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

from dcao.layout import WHOLE, Layout
from dcao.probing.batch import Batch
from dcao.probing.estimate import Reading
from dcao.probing.lengths import NEARLY_ZERO, difference_length, moving_length, natural_length
from dcao.probing.memory import ProbeMemory
from dcao.probing.probed_loss import ProbedLoss
from dcao.rounding import rounded
from dcao.updates.stability import load_number
from dcao.vectors import flatten

SAFE_EXPONENT = 30
"""Numbers between 2**-30 and 2**30 have squares, and sums of squares, well inside float32."""

NO_STEP = "there is no step: the gradient is zero, or lr is 0"


def read_along_step(loss: ProbedLoss, memory: ProbeMemory) -> Reading:
    """The measures ``batch`` and ``load``, and the relative step.

    Args:
        loss: What is probed.
        memory: Has the gradient of the training batch before. The first probe writes there what steps from zero are
            measured against.
    """
    steps = [_step_vectors(loss, batch, memory.past_gradient) for batch in loss.batches]
    along, reference = _measure(loss, steps, memory)
    along = along.per_clip(_clip(loss))
    dynamics, stability = loss.step.dynamics, {}
    if along.trust > 0.0:
        stability = {"batch": along.total, "load": load_number(along.signal, along.noise, dynamics)}
    has_length = 0.0 < along.length < math.inf and 0.0 < reference < math.inf
    return Reading(
        stability=stability,
        trust=along.trust * (1.0 - loss.relative_error),
        reason=along.reason,
        fields={
            "batch": along.total / dynamics.step_size if dynamics.step_size > 0.0 else None,
            "load_signal": along.signal,
            "load_noise": along.noise,
            "relative_step": along.length / reference if has_length else None,
        },
    )


def _clip(loss: ProbedLoss) -> float:
    """The clip that is left out of s, a mean over the batches.

    Without a denominator a clip makes the displacement shorter, and so s smaller: it would say what happens while the
    clip holds, and not what the same lr does once it lets go.
    """
    if loss.step.is_preconditioned:
        return 1.0
    return sum(1.0 if batch.stepping is None else batch.stepping.clip for batch in loss.batches) / len(loss.batches)


def _measure(loss: ProbedLoss, steps: Sequence[StepVectors], memory: ProbeMemory) -> tuple[Directional, float]:
    """The measures, and the length that those of the displacements are compared with."""
    moving = sum(moving_length(loss.params, loss.step.split(each.displacement)) for each in steps) / len(steps)
    precision = loss.precision_along_step()
    loss.difference_length = difference_length(loss.params, moving, memory.natural_length, precision=precision)
    along = directional(steps)
    if along.trust > 0.0 and (memory.natural_length is None or moving == memory.natural_length == 0.0):
        cost = loss.cost
        memory.natural_length = _length_from_zero(loss, steps[0], along, moving)
        if memory.natural_length > 0.0:
            loss.difference_length = difference_length(loss.params, moving, memory.natural_length, precision=precision)
            along = directional(steps)
        loss.search_cost = loss.cost - cost
    return along, max(moving, memory.natural_length or 0.0)


def _length_from_zero(loss: ProbedLoss, step: StepVectors, along: Directional, moving: float) -> float:
    """What steps are measured against if the weights that move have started at zero; 0 if they have not."""
    if moving > 0.0 and moving >= NEARLY_ZERO * along.natural_length:
        return 0.0

    def slope(distance: float) -> float:
        loss.distance = distance
        try:
            there = directional([step])
        except Exception:  # so far away the loss may refuse its own numbers
            return math.nan
        finally:
            loss.distance = None
        return 1.0 - distance * there.total / there.length

    found = natural_length(slope, difference_length(loss.params, 0.0, None))
    if found is None:  # along a straight line any length is as good as any other: a root mean square of 1
        found = math.sqrt(step.layout.num_nonzero(step.displacement))
    return rounded(found) if moving < NEARLY_ZERO * found else 0.0


def _step_vectors(loss: ProbedLoss, batch: Batch, past: Tensor | None) -> StepVectors:
    step, stepping = loss.step, batch.stepping
    raw = flatten(batch.gradient or [], dtype=step.dtype)
    # A group may have been added since, and a checkpoint may come from another device.
    past = past.to(raw) if past is not None and past.shape == raw.shape else None
    taken = raw if stepping is None else flatten(stepping.gradient, dtype=step.dtype)
    gradient = _with_decay(loss, taken)
    factors = step.displacement_factors(step.split(gradient))
    length, factor = None, 1.0
    if stepping is not None:
        along, factor = stepping.along(raw, taken, gradient * factors, step.layout)
        if along is not taken:
            length = float(step.layout.norm(gradient * factors))
            gradient = _with_decay(loss, along)
    # Powers of two round nothing, and keep the squares of 1e20 and of 1e-20 inside float32.
    exponent = _exponent(gradient, step.layout)
    gradient = _divided(gradient, exponent)
    displacement = gradient * factors
    further = _exponent(displacement, step.layout)
    unit = _times_power(1.0, exponent + further)
    decay = step.l2_decay() / factor
    return StepVectors(
        gradient=gradient if factor == 1.0 else gradient / factor,
        displacement=_divided(displacement, further),
        past=None if past is None else _divided(_divided(_with_decay(loss, past), exponent) * factors, further),
        product=lambda v: loss.product_along_step(batch, raw, v, unit=unit).addcmul_(decay, v),
        weight=batch.weight,
        exponents=(exponent, exponent + further),
        length=length,
        layout=step.layout,
    )


def relative_step(loss: ProbedLoss, memory: ProbeMemory) -> float | None:
    """The relative step alone, for measures that look in other directions; None for an optimizer of an unknown class.

    It costs no evaluation, because the gradients of the batches are there, unless the weights start at zero.
    """
    if not loss.step.has_record:
        return None
    steps = [_step_vectors(loss, batch, None) for batch in loss.batches]
    moving = sum(moving_length(loss.params, loss.step.split(each.displacement)) for each in steps) / len(steps)
    reference = max(moving, memory.natural_length or 0.0)
    if reference == 0.0:
        _, reference = _measure(loss, steps, memory)
    length = mean_length(steps)
    return length / reference if 0.0 < length < math.inf and 0.0 < reference < math.inf else None


def _with_decay(loss: ProbedLoss, gradient: Tensor) -> Tensor:
    """The gradient with the coupled decay of those entries that the loss moves; the others only fade away."""
    decayed = loss.step.with_coupled_decay(gradient)
    return gradient if decayed is gradient else decayed.masked_fill_(gradient == 0.0, 0.0)


def _exponent(vector: Tensor, layout: Layout) -> int:
    """The power of two to divide by, so that no square leaves the range of the dtype; 0 if none does."""
    largest = float(layout.largest(vector))
    exponent = math.frexp(largest)[1] if math.isfinite(largest) else 0
    most = math.frexp(torch.finfo(vector.dtype).max)[1] - 2
    return min(max(exponent, -most), most) if abs(exponent) > SAFE_EXPONENT else 0


def _divided(vector: Tensor, exponent: int) -> Tensor:
    return vector * 2.0**-exponent if exponent else vector


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
    """One batch's gradient and displacements, flat.

    Attributes:
        gradient: ``g_B``.
        displacement: ``d_B``; the coming step goes along minus this.
        past: ``d_A`` of the batch before; None where it is not known.
        product: ``H_B`` times a vector.
        weight: Size of the batch.
        exponents: Powers of two that gradient and displacements have been divided by.
        length: Length of the displacement that the step takes, where it is not ``d_B``.
        layout: Where the entries of the vectors are.
    """

    gradient: Tensor
    displacement: Tensor
    past: Tensor | None
    product: Callable[[Tensor], Tensor]
    weight: float
    exponents: tuple[int, int] = (0, 0)
    length: float | None = None
    layout: Layout = WHOLE


def directional(batches: Sequence[StepVectors]) -> Directional:
    """The measures over one batch, or over several, which serve as each other's past.

    Example:
        >>> g = torch.tensor([1.0, 2.0])  # of a quadratic with curvature 3, with lr 0.5
        >>> one = StepVectors(gradient=g, displacement=0.5 * g, past=0.5 * g, product=lambda v: 3.0 * v, weight=1.0)
        >>> directional([one])
        Directional(total=1.5, signal=1.5, length=1.118..., trust=1.0, reason='')
    """
    slope = curvature = signal = 0.0
    for index, batch in enumerate(batches):
        of_gradient, unit = batch.exponents
        product = batch.product(batch.displacement)
        past = _mean_of_others(batches, index) if len(batches) > 1 else batch.past
        pairs = [(batch.gradient, batch.displacement), (batch.displacement, product)]
        down, along, *across = batch.layout.dots(*pairs, *([] if past is None else [(past, product)]))
        slope += batch.weight * _times_power(down, of_gradient + unit)
        curvature += batch.weight * _times_power(along, 2 * unit)
        signal += batch.weight * _times_power(across[0], 2 * unit) if across else 0.0
    return replace(_judge(slope, curvature, signal), length=mean_length(batches))


def mean_length(batches: Sequence[StepVectors]) -> float:
    """``||d_B||``, the mean over the batches."""
    length = 0.0
    for batch in batches:
        own = _times_power(float(batch.layout.norm(batch.displacement)), batch.exponents[1])
        length += (own if batch.length is None else batch.length) / len(batches)
    return length


def _times_power(value: float, exponent: int) -> float:
    """``value * 2**exponent``; infinite where that is too large for a number."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def _mean_of_others(batches: Sequence[StepVectors], index: int) -> Tensor:
    """In the power of two of batch ``index``."""
    others = [batch for position, batch in enumerate(batches) if position != index]
    mean = torch.zeros_like(others[0].displacement)
    total = sum(batch.weight for batch in others)
    for batch in others:
        share = batch.weight / total
        mean.add_(batch.displacement, alpha=_times_power(share, batch.exponents[1] - batches[index].exponents[1]))
    return mean


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
