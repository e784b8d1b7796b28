"""Mini-batch curvature along the optimizer's own step: the measures ``batch`` and ``load``.

With ``d_B = eta_eff P^-1 g_B``, the displacement that a batch's gradient leads to in the long run, and ``d_A`` the
displacement of an independent batch (the training batch before, or the other batches of the probe),

    batch  = sum_B d_B' H_B d_B / sum_B g_B' d_B
    signal = mean over A of sum_B d_A' H_B d_B / sum_B g_B' d_B        noise = batch - signal

One product a batch: with the training batch's own gradient and a one-sided difference, one extra gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from dcao.blocks import Entrywise, Vector, blocks, in_blocks_of
from dcao.layout import Layout
from dcao.probing.batch import Batch
from dcao.probing.directional import SAFE_EXPONENT, Directional, StepVectors, directional, mean_length, times_power
from dcao.probing.estimate import Reading
from dcao.probing.lengths import NEARLY_ZERO, difference_length, moving_length, natural_length
from dcao.probing.memory import ProbeMemory
from dcao.probing.probed_loss import ProbedLoss
from dcao.rounding import rounded
from dcao.sums import joint_norm, largest_entry, num_nonzero
from dcao.updates.stability import load_number


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
    moving = sum(moving_length(loss.params, each.displacement) for each in steps) / len(steps)
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
        found = math.sqrt(num_nonzero(step.displacement, step.layout))
    return rounded(found) if moving < NEARLY_ZERO * found else 0.0


def _step_vectors(loss: ProbedLoss, batch: Batch, past: Vector | None) -> StepVectors:
    step, stepping = loss.step, batch.stepping
    raw: Vector = blocks(batch.gradient or [], dtype=step.dtype)
    # A group may have been added since, and a checkpoint may come from another device.
    before = None if past is None else in_blocks_of(past, loss.params, dtype=step.dtype)
    taken = raw if stepping is None else blocks(stepping.gradient, dtype=step.dtype)
    gradient = _with_decay(loss, taken)
    factors: Vector = step.displacement_factors(gradient)
    length, factor = None, 1.0
    if stepping is not None:
        along, factor = stepping.along(raw, taken, Entrywise(torch.mul, gradient, factors), step.layout)
        if along is not taken:
            length = joint_norm(Entrywise(torch.mul, gradient, factors), step.layout)
            gradient = _with_decay(loss, along)

    def scaled_by(exponent: int, further: int) -> StepVectors:
        """Powers of two round nothing, and keep the squares of 1e20 and of 1e-20 inside float32."""
        own = gradient if exponent == 0 else [block * 2.0**-exponent for block in gradient]
        unit = times_power(1.0, exponent + further)
        return StepVectors(
            gradient=own if factor == 1.0 else [block / factor for block in own],
            displacement=_displacement(own, factors, 0, further),
            past=None if before is None else _displacement(_with_decay(loss, before), factors, exponent, further),
            product=lambda v, norm: _product(loss, batch, raw, v, norm, unit=unit, factor=factor),
            weight=batch.weight,
            exponents=(exponent, exponent + further),
            length=length,
            layout=step.layout,
        )

    vectors = scaled_by(0, 0)
    if vectors.is_safe:
        return vectors
    exponent = _exponent(gradient, step.dtype, step.layout)
    return scaled_by(exponent, _exponent(scaled_by(exponent, 0).displacement, step.dtype, step.layout))


def _displacement(gradient: Vector, factors: Vector, exponent: int, further: int) -> Vector:
    """``2**-exponent`` times a gradient, times the factors, divided by ``2**further``."""
    if exponent == further == 0:
        return Entrywise(torch.mul, gradient, factors)
    return Entrywise(lambda part, factor: part * 2.0**-exponent * factor * 2.0**-further, gradient, factors)


def _product(
    loss: ProbedLoss, batch: Batch, raw: Vector, vector: Vector, norm: float, *, unit: float, factor: float
) -> Vector:
    """``H_B`` times a displacement of length ``norm``, and that of the coupled decay."""
    product = loss.product_along_step(batch, raw, vector, norm, unit=unit)
    if not loss.step.has_coupled_decay:
        return product
    decays = loss.step.l2_decay()
    return Entrywise(lambda h, decay, v: torch.addcmul(h, decay / factor, v), product, decays, vector)


def relative_step(loss: ProbedLoss, memory: ProbeMemory) -> float | None:
    """The relative step alone, for measures that look in other directions; None for an optimizer of an unknown class.

    It costs no evaluation, because the gradients of the batches are there, unless the weights start at zero.
    """
    if not loss.step.has_record:
        return None
    steps = [_step_vectors(loss, batch, None) for batch in loss.batches]
    moving = sum(moving_length(loss.params, each.displacement) for each in steps) / len(steps)
    reference = max(moving, memory.natural_length or 0.0)
    if reference == 0.0:
        _, reference = _measure(loss, steps, memory)
    length = mean_length(steps)
    return length / reference if 0.0 < length < math.inf and 0.0 < reference < math.inf else None


def _with_decay(loss: ProbedLoss, gradient: Vector) -> Vector:
    """The gradient with the coupled decay of those entries that the loss moves; the others only fade away."""
    decayed = loss.step.with_coupled_decay(gradient)
    if decayed is gradient:
        return gradient
    return [block.masked_fill_(own == 0.0, 0.0) for block, own in zip(decayed, gradient, strict=True)]


def _exponent(vector: Vector, dtype: torch.dtype, layout: Layout) -> int:
    """The power of two to divide by, so that no square leaves the range of the dtype; 0 if none does."""
    largest = largest_entry(vector, layout)
    exponent = math.frexp(largest)[1] if math.isfinite(largest) else 0
    most = math.frexp(torch.finfo(dtype).max)[1] - 2
    return min(max(exponent, -most), most) if abs(exponent) > SAFE_EXPONENT else 0
