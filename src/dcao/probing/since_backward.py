"""What has become of a training batch's gradient between its backward pass and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from dcao.models import Model
from dcao.probing.backward_watch import BackwardWatch
from dcao.probing.grad_scalers import that_unscaled
from dcao.probing.gradient_mark import GradientMark

ROUNDING = 1e-5
"""Relative error allowed for a factor that should be one over a whole number or a power of two."""

LARGEST_DIVISOR = 100
"""A factor of 1/n is taken for a mean over n micro-batches up to this n: above it, clips come as close by chance."""


@dataclass(frozen=True, kw_only=True)
class SinceBackward:
    """What is known of the gradients of a training step when a probe comes to look at them.

    Attributes:
        mark: The gradients as the last backward pass left them.
        has_leftovers: Whether they were added to gradients from before.
        closure_writes: Whether the closure has written to them itself.
        scalers: GradScalers that have unscaled them.
    """

    mark: GradientMark
    has_leftovers: bool = False
    closure_writes: bool = False
    scalers: Sequence[GradScaler] = ()

    @classmethod
    def of_closure(cls, watch: BackwardWatch, model: Model, *optimizers: Optimizer) -> SinceBackward | None:
        """What a closure has done that ran under ``watch``; None if it called no backward pass."""
        if watch.mark is None:
            return None
        writes = not watch.mark.is_unchanged()
        scalers = that_unscaled(model.scalers(), *optimizers) if writes else ()
        return cls(mark=watch.mark, has_leftovers=watch.has_leftovers(), closure_writes=writes, scalers=scalers)

    def is_nothing(self) -> bool:
        """Whether the gradients in ``.grad`` are those of the batch, and nothing has written to them."""
        return not self.has_leftovers and self.mark.is_unchanged()

    def loss_scale(self) -> float:
        """What the scalers have multiplied the loss by."""
        return math.prod(scaler.get_scale() for scaler in self.scalers)


def clip_in(factor: float, loss_scale: float = 1.0) -> float:
    """The part of a factor on the gradient that is a clip, at most 1; the rest undoes a scaling of the loss.

    A factor above 1, a power of two and one over a small whole number scale a loss; a clip hits them by rare chance.

    Example:
        >>> clip_in(0.3), clip_in(0.25), clip_in(4.0), clip_in(0.3 / 1024, loss_scale=1024.0)
        (0.3, 1.0, 1.0, 0.3)
    """
    clip = factor * loss_scale
    if not 0.0 < clip < 1.0 - ROUNDING:
        return 1.0
    inverse = 1.0 / clip
    is_divisor = inverse < LARGEST_DIVISOR and abs(inverse - round(inverse)) < ROUNDING * inverse
    is_power_of_two = abs(math.log2(clip) - round(math.log2(clip))) < ROUNDING
    return 1.0 if is_divisor or is_power_of_two else clip
