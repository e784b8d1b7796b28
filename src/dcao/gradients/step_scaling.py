"""What a loop of the user's own does to a gradient between the loss that it has probed and the step.

``probe(loss_fn)`` and the batches of ``probe_batch=`` are measured before anybody clips, or outside of the step. What
then steps is compared with what was probed, and the next probe takes the step as long as it will be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from dcao.blocks import Vector
from dcao.gradients.since_backward import clip_in
from dcao.gradients.stepping import Stepping, scaled
from dcao.layout import WHOLE, Layout
from dcao.sums import inner, joint_length, joint_norm
from dcao.vectors import sizes_of

ALIKE = 1e-3
"""Two lengths that differ by less are the same but for rounding."""

SAME_WAY = 0.9
"""Cosine above which two gradients are taken for multiples of one: another dropout mask or accumulation in half
precision leaves more, an independent batch less, except where all batches agree and it makes no difference."""


@dataclass
class StepScaling:
    """The clip or the factor that gradients have met on their way to the step.

    Attributes:
        limit: Length to which gradients are clipped; 0: no clip is known.
        factor: What gradients are multiplied by.
        last_length: Length of the gradient at the last step that was looked at; 0 before the first.
        last_ratio: That length over the length of the probe's gradient, where both pointed the same way; else 0.

    Example:
        >>> import torch
        >>> scaling, probed = StepScaling(), torch.tensor([3.0, 4.0])
        >>> scaling.learn([0.1 * probed], [probed])
        >>> scaling.of(10.0), scaling.of(0.2)
        ((0.05, 0.05), (1.0, 1.0))
    """

    limit: float = 0.0
    factor: float = 1.0
    last_length: float = 0.0
    last_ratio: float = 0.0

    def learn(self, taken: Vector, probed: Vector | None = None, layout: Layout = WHOLE) -> None:
        """Look at a gradient that steps, and at that of the probe before it."""
        length, last = joint_norm(taken, layout), self.last_length
        if not 0.0 < length < math.inf:
            return
        self.last_length = length
        if probed is not None and sizes_of(probed) == sizes_of(taken):
            whole = joint_norm(probed, layout)
            cosine = inner(taken, probed, layout) / (length * whole) if 0.0 < whole < math.inf else 0.0
            if cosine > SAME_WAY:
                self._learn_ratio(length, whole, math.sqrt(max(0.0, 1.0 - cosine * cosine)))
                return
        if abs(length - last) < ALIKE * last:  # of other batches: only a clip does this
            self.limit, self.factor = length, 1.0

    def of(self, length: float) -> tuple[float, float]:
        """The factor that a gradient of this length will meet, and the part of it that is a clip."""
        if 0.0 < self.limit < length:
            return self.limit / length, self.limit / length
        return self.factor, 1.0

    def stepping(self, gradient: list[Tensor]) -> Stepping | None:
        """How a step with this gradient will be; None if nothing is going to change it."""
        factor, clip = self.of(joint_length(gradient))
        return None if factor == 1.0 else scaled(gradient, factor, clip)

    def _learn_ratio(self, length: float, whole: float, sine: float) -> None:
        """Of two gradients that point the same way but for ``sine``, which may also make one of them longer."""
        ratio, last = length / whole, self.last_ratio
        self.last_ratio = ratio
        if abs(ratio - 1.0) < ALIKE + sine:
            self.factor = 1.0
            self.limit = self.limit if whole <= self.limit * (1.0 + ALIKE) else 0.0
            return
        is_clipped_again = abs(length - self.limit) < ALIKE * self.limit
        has_same_ratio = abs(ratio - last) < (ALIKE + sine) * ratio
        if clip_in(ratio) == 1.0 or (has_same_ratio and not is_clipped_again):
            self.limit, self.factor = 0.0, ratio
        else:
            self.limit, self.factor = length, 1.0
