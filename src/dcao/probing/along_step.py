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

from dcao.probing.batch import Batch
from dcao.probing.estimate import Reading
from dcao.probing.probed_loss import ProbedLoss
from dcao.updates.stability import load_number
from dcao.vectors import flatten, joint_norm


def read_along_step(loss: ProbedLoss, past_gradient: Tensor | None) -> Reading:
    """The measures ``batch`` and ``load``, and the relative step.

    Args:
        loss: What is probed.
        past_gradient: Flat gradient of the training batch before; None if it is not known.
    """
    along = directional([_step_vectors(loss, batch, past_gradient) for batch in loss.batches])
    dynamics, stability = loss.step.dynamics, {}
    if along.trust > 0.0:
        stability = {"batch": along.total, "load": load_number(along.signal, along.noise, dynamics)}
    return Reading(
        stability=stability,
        trust=along.trust,
        reason=along.reason,
        fields={
            "batch": along.total / dynamics.step_size if dynamics.step_size > 0.0 else None,
            "load_signal": along.signal,
            "load_noise": along.noise,
            "relative_step": _relative_step(along.length, loss.params),
        },
    )


def _step_vectors(loss: ProbedLoss, batch: Batch, past: Tensor | None) -> StepVectors:
    step = loss.step
    raw = flatten(batch.gradient or [], dtype=step.dtype)
    # A group may have been added since, and a checkpoint may come from another device.
    past = past.to(raw) if past is not None and past.shape == raw.shape else None
    gradient = step.with_coupled_decay(raw)
    factors = step.displacement_factors(step.split(gradient))
    return StepVectors(
        gradient=gradient,
        displacement=gradient * factors,
        past=None if past is None else step.with_coupled_decay(past) * factors,
        product=lambda vector: loss.product_along_step(batch, raw, vector).addcmul_(step.l2_decay(), vector),
        weight=batch.weight,
    )


def relative_step(loss: ProbedLoss) -> float | None:
    """The relative step alone, for measures that look in other directions; None for an optimizer of an unknown class.

    It costs no evaluation: the gradients of the batches are there.
    """
    if not loss.step.has_record:
        return None
    vectors = (_step_vectors(loss, batch, None) for batch in loss.batches)
    lengths = [float(torch.linalg.vector_norm(each.displacement)) for each in vectors]
    return _relative_step(sum(lengths) / len(lengths), loss.params)


def _relative_step(length: float, params: Sequence[Tensor]) -> float | None:
    if not 0.0 < length < math.inf:
        return None
    weights = joint_norm(params)
    return length / weights if 0.0 < weights < math.inf else None


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
    """Inner product of two flat vectors, as a number."""
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
