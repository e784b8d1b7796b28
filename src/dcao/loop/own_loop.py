"""Loops that call backward themselves: what has been probed, compared with what then steps."""

from __future__ import annotations

from dataclasses import replace

from dcao.blocks import blocks
from dcao.gradients.stepping import scaling_in_words
from dcao.layout import layout_of
from dcao.loop.probe_loop import ProbeLoop
from dcao.probing.batch import gradients_left
from dcao.probing.estimate import ALONG_STEP, CurvatureEstimate
from dcao.sums import joint_norm
from dcao.updates.upcoming_step import UpcomingStep
from dcao.vectors import vector_dtype

NOTABLE = 0.01
"""Relative change of a step's length that is worth a second decision."""


def is_comparable(loop: ProbeLoop) -> bool:
    """Whether something was probed that the gradient in ``.grad`` can be compared with, or is going to be."""
    return loop.probe.memory.probed is not None or (loop.decides() and not loop.source.is_training_batch)


def compare_with_probe(loop: ProbeLoop) -> None:
    """Learn from the gradient that is about to step what happens to gradients after a probe.

    Without a denominator the last estimate can be put right, and is decided on again. With one, the probe before the
    first step is right as it is, because the denominator is the gradient's own.
    """
    params, memory = loop.probe.params(), loop.probe.memory
    probed = memory.probed
    if not params:
        return
    taken = blocks(gradients_left(params), dtype=vector_dtype(params))
    layout = layout_of(params)
    length = 0.0 if probed is None else joint_norm(probed, layout)
    before = memory.scaling.of(length)
    memory.scaling.learn(taken, probed, layout)
    now, estimate = memory.scaling.of(length), loop.at_top
    step = UpcomingStep(loop.probe.optimizer, loop.probe.record, params)
    if probed is None or estimate is None or not estimate.trust or not step.has_record or step.is_preconditioned:
        return
    if abs(now[0] / before[0] - 1.0) > NOTABLE:
        loop.decide_again(corrected(estimate, before, now))


def corrected(estimate: CurvatureEstimate, before: tuple[float, float], now: tuple[float, float]) -> CurvatureEstimate:
    """An estimate for an optimizer without a denominator, where the gradient meets another factor than was assumed.

    Args:
        estimate: What was measured.
        before: The factor on the gradient that was assumed, and the part of it that is a clip.
        now: The same as they are.

    Example:
        >>> seen = CurvatureEstimate(step=0, measure="load", s=1.0, relative_step=0.5)
        >>> right = corrected(seen, before=(1.0, 1.0), now=(0.1, 0.1))
        >>> right.s, right.relative_step, right.reason
        (1.0, 0.05, 'the gradient was clipped to 0.1 of its length')
    """
    of_loss = (now[0] / now[1]) / (before[0] / before[1])

    def times(value: float | None, factor: float) -> float | None:
        return None if value is None else value * factor

    reasons = [each for each in estimate.reason.split("; ") if each != scaling_in_words(*before)]
    along = {name: s * of_loss if name in ALONG_STEP else s for name, s in estimate.stability.items()}
    return replace(
        estimate,
        s=along.get(estimate.measure, times(estimate.s, of_loss)),
        stability=along,
        batch=times(estimate.batch, of_loss),
        load_signal=times(estimate.load_signal, of_loss),
        load_noise=times(estimate.load_noise, of_loss),
        relative_step=times(estimate.relative_step, now[0] / before[0]),
        cost=0.0,
        reason="; ".join(each for each in (*reasons, scaling_in_words(*now)) if each),
    )
