"""The gradient that steps, where it is not the one that the loss has at this batch.

A clip shortens it, accumulation adds other micro-batches to it, a GradScaler divides it. With ``g`` the gradient of the
loss that is evaluated, ``g_step`` the one that the optimizer gets and ``d`` the displacement by ``g_step``, the
curvature met along the step is

    d'H d / g'd = f d'H d / g_step'd,    f = g_step'd / g'd

which is free of any scale of the loss. ``f`` says how many times the loss that is evaluated the loss that trains is,
times the clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from dcao.blocks import Entrywise, Vector, blocks
from dcao.gradients.since_backward import SinceBackward
from dcao.layout import WHOLE, Layout, layout_of
from dcao.sums import inner_products, largest_entry, num_nonzero
from dcao.vectors import sizes_of

UNCHANGED = 1e-4
"""A factor on the gradient that is closer to 1 than this is none: rounding, or a clip that does not hold."""

MOSTLY = 0.99
"""Share of the entries that a clip by value may not have made longer or turned, rounding allowed for."""


@dataclass(frozen=True, kw_only=True)
class Stepping:
    """The gradient that the optimizer steps with, and how it comes from the loss's.

    Attributes:
        gradient: What is in ``.grad`` when the optimizer steps, in the order of the probe's parameters.
        factor: What the loss's gradient is multiplied by to give it; an estimate where they point different ways.
        clip: The part of the factor that is a clip, at most 1.
        is_scaled: Whether the two point the same way.
        is_noisy: Whether something was added to the gradient that does not depend on the batch.
        reason: What was done to the gradient, in words.
    """

    gradient: list[Tensor]
    factor: float
    clip: float = 1.0
    is_scaled: bool = True
    is_noisy: bool = False
    reason: str = ""

    @property
    def loss_factor(self) -> float:
        """How many times the loss that is evaluated the loss that trains is."""
        return self.factor / self.clip

    def along(
        self, loss_gradient: Vector, taken: Vector, displacement: Vector, layout: Layout = WHOLE
    ) -> tuple[Vector, float]:
        """The gradient along which curvature is measured, and ``f``.

        Noise that does not depend on the weights makes no step unstable, so that it is left out of the direction.
        """
        if self.is_noisy:
            return [block * self.factor for block in loss_gradient], self.factor
        return taken, self.factor if self.is_scaled else _share(taken, loss_gradient, displacement, layout)


def scaled(gradient: Sequence[Tensor], factor: float, clip: float) -> Stepping:
    """A step with ``factor`` times this gradient."""
    return Stepping(
        gradient=[grad * factor for grad in gradient], factor=factor, clip=clip, reason=scaling_in_words(factor, clip)
    )


def how_it_steps(
    taken: list[Tensor], since: SinceBackward, evaluate: Callable[[], list[Tensor]]
) -> tuple[list[Tensor], Stepping | None]:
    """The gradient of the loss proper, and how that in ``.grad`` comes from it; None if it is the same.

    Args:
        taken: The gradients in ``.grad``.
        since: What is known of them.
        evaluate: The gradient of the loss proper, evaluated again; called only where it is needed.
    """
    factor = None if since.has_leftovers else since.mark.factor()
    if factor is not None and abs(factor - 1.0) < UNCHANGED:
        return taken, None
    if factor is not None:
        clip = since.clip_in(factor)
        reason = scaling_in_words(factor, clip)
        return [grad / factor for grad in taken], Stepping(gradient=taken, factor=factor, clip=clip, reason=reason)
    gradient = evaluate()
    loss, step, layout = blocks(gradient), blocks(taken), layout_of(taken)
    is_noisy = not since.has_leftovers and not _is_shortened(loss, step, layout)
    factor = _share(step, loss, loss if is_noisy else step, layout)
    clip = since.clip_in(since.mark.length_ratio() if since.has_leftovers else factor)
    stepping = Stepping(
        gradient=taken,
        factor=factor,
        clip=clip,
        is_scaled=False,
        is_noisy=is_noisy,
        reason=_change_in_words(since.has_leftovers, is_noisy, clip),
    )
    return gradient, stepping


def _share(taken: Vector, loss_gradient: Vector, direction: Vector, layout: Layout) -> float:
    """Slope of the step's gradient along ``direction`` over that of the loss's; infinite if the latter is 0."""
    scale = largest_entry(direction, layout) or 1.0
    slope, of_step = inner_products(Entrywise(lambda part: part / scale, direction), [loss_gradient, taken], layout)
    return of_step / slope if slope != 0.0 else math.inf


def _is_shortened(loss: Vector, step: Vector, layout: Layout) -> bool:
    """Whether no entry was turned or made longer, as by a clip of each value or a mask."""

    def kept(ours: Tensor, theirs: Tensor) -> Tensor:
        return (theirs * ours >= 0.0) & (theirs.abs() <= ours.abs() * 1.001)

    return num_nonzero(Entrywise(kept, loss, step), layout) >= MOSTLY * layout.total(sum(sizes_of(loss)))


def scaling_in_words(factor: float, clip: float) -> str:
    """What was done to a gradient that was multiplied by ``factor``, of which ``clip`` is a clip; empty if nothing."""
    if factor == 1.0:
        return ""
    if clip < 1.0:
        return f"the gradient was clipped to {clip:.3g} of its length"
    return f"the gradient was multiplied by {factor:.3g} after backward"


def _change_in_words(has_leftovers: bool, is_noisy: bool, clip: float) -> str:
    if has_leftovers:
        clipped = f", clipped to {clip:.3g} of its length" if clip < 1.0 else ""
        return f"the step's gradient also holds what was accumulated before the closure{clipped}"
    if is_noisy:
        return "the gradient was changed after backward by more than a factor: s is measured along the loss's own"
    return "the gradient's entries were clipped one by one"
