"""The factor that keeps gradients of a loss in float16 from vanishing, as that of a GradScaler does in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcao.layout import layout_of
from dcao.operators.graph import graph_nodes
from dcao.operators.precision import is_half
from dcao.vectors import entries_of

FIRST = 2.0**16
"""The factor that is tried first: the one that ``torch.amp.GradScaler`` starts from."""

CUT = 16.0
"""What the factor is divided by where a gradient overflows; after four such cuts it is 1."""


class LossScale:
    """Factor of a loss whose gradients flow in float16, and by which its gradient is divided again.

    Float16 has no number between 0 and 6e-8, so that small gradients inside a network become 0. For a loss of
    the size 0.001 s was off by 30 % at the median without a factor, and by 1.4 % with one
    (``benchmarks/stability_by_precision.py``). A power of two rounds nothing else.

    Attributes:
        factor: Falls until nothing overflows. It starts again where a gradient is not finite without a factor either.

    Example:
        >>> w, scale = torch.ones(2, requires_grad=True), LossScale()
        >>> loss = (1e-9 * w.half().float()).sum()
        >>> torch.autograd.grad(loss, w, retain_graph=True)
        (tensor([0., 0.]),)
        >>> scale.undone(torch.autograd.grad(scale.times(loss), w))
        [tensor([1.00...e-09, 1.00...e-09])]
    """

    def __init__(self) -> None:
        self.factor = FIRST

    def times(self, loss: Tensor) -> Tensor:
        """The loss times the factor, in float32 or wider."""
        return (loss.float() if is_half(loss) else loss) * self.factor

    def undone(self, gradients: Sequence[Tensor]) -> list[Tensor] | None:
        """The gradients divided by the factor, in float32 or wider.

        None, and a smaller factor for the next time, if they have overflowed.
        """
        is_finite = all(bool(entries_of(gradient).isfinite().all()) for gradient in gradients)
        if not layout_of(gradients).on_any_rank(not is_finite):
            return [(gradient.float() if is_half(gradient) else gradient) / self.factor for gradient in gradients]
        is_overflow = self.factor > 1.0
        self.factor = self.factor / CUT if is_overflow else FIRST
        return None if is_overflow else list(gradients)


def flows_in_float16(loss: Tensor) -> bool:
    """Whether gradients of this loss flow in float16 somewhere on their way; a compiled function hides it.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> flows_in_float16(w.half().sum().float()), flows_in_float16(w.bfloat16().sum())
        (True, False)
    """
    return any(each.dtype is torch.float16 for node in graph_nodes(loss) for each in node._input_metadata)
