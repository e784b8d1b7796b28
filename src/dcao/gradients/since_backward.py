"""What has become of a training batch's gradient between its backward pass and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from dcao.gradients.backward_watch import BackwardWatch
from dcao.gradients.grad_scalers import that_unscaled
from dcao.gradients.gradient_mark import GradientMark
from dcao.models import Model

ROUNDING = 1e-5
"""Relative error allowed for a factor that should be one over a whole number or a power of two."""

LARGE_SCALE = 128.0
"""Losses are scaled by hand, against underflow in half precision, with powers of two from about this on."""


@dataclass(frozen=True, kw_only=True)
class SinceBackward:
    """What is known of the gradients of a training step when a probe comes to look at them.

    Attributes:
        mark: The gradients as the last backward pass left them.
        has_leftovers: Whether they were added to gradients from before.
        closure_writes: Whether the closure has written to them itself.
        scalers: GradScalers that have unscaled them.
        num_passes: Backward passes that the training step has made.
    """

    mark: GradientMark
    has_leftovers: bool = False
    closure_writes: bool = False
    scalers: Sequence[GradScaler] = ()
    num_passes: int = 1

    @classmethod
    def of_closure(cls, watch: BackwardWatch, model: Model, *optimizers: Optimizer) -> SinceBackward | None:
        """What a closure has done that ran under ``watch``; None if it called no backward pass."""
        if watch.mark is None:
            return None
        writes = not watch.mark.is_unchanged()
        scalers = that_unscaled(model.scalers(), *optimizers) if writes else ()
        return cls(
            mark=watch.mark,
            has_leftovers=watch.has_leftovers(),
            closure_writes=writes,
            scalers=scalers,
            num_passes=watch.num_passes,
        )

    def is_nothing(self) -> bool:
        """Whether the gradients in ``.grad`` are those of the batch, and nothing has written to them."""
        return not self.has_leftovers and self.mark.is_unchanged()

    def clip_in(self, factor: float) -> float:
        """The part of a factor on the gradients that is a clip."""
        return clip_in(factor, math.prod(scaler.get_scale() for scaler in self.scalers), self.num_passes)


def clip_in(factor: float, loss_scale: float = 1.0, num_passes: int = 1) -> float:
    """The part of a factor on the gradient that is a clip, at most 1; the rest undoes a scaling of the loss.

    Args:
        factor: What the gradient has been multiplied by.
        loss_scale: What the loss is known to have been multiplied by.
        num_passes: Backward passes whose gradients were summed up. A factor of one over it makes a mean of the sum.

    Example:
        >>> clip_in(0.25), clip_in(4.0), clip_in(0.3 / 1000, loss_scale=1000.0), clip_in(0.25, num_passes=4)
        (0.25, 1.0, 0.3, 1.0)
        >>> clip_in(1 / 4096)  # a loss that was scaled by hand
        1.0
    """
    clip = factor * loss_scale
    if not 0.0 < clip < 1.0 - ROUNDING:
        return 1.0
    is_mean = abs(clip * num_passes - 1.0) < ROUNDING
    power = math.log2(clip)
    is_scale = clip * LARGE_SCALE <= 1.0 + ROUNDING and abs(power - round(power)) < ROUNDING
    return 1.0 if is_mean or is_scale else clip
