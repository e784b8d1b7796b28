"""Where a rising learning rate is long enough: the limits, and which of them is met first.

Both limits are on what a probe measures at each step of the rise, and both quantities are proportional to lr:

- **s over the agreement.** ``s`` counts what a step costs in curvature, the cosine between successive batches'
  gradients is the share of a gradient that all batches have in common, so their ratio is the cost of a step over its
  gain. The best lrs for warmup and cosine lie at about ten times the lr of the greedy step, where the two are equal.
- **The relative step**, which alone limits lr where curvature says nothing.

``docs/decisions/0012-find-lr.md`` has how the constants were chosen and what they are worth.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dcao.guarding.turning import Rising, TurningPoint
from dcao.policies.range_test import ERRORS_ALONE, TURNED

COST_OVER_GAIN = 10.0
"""Largest s, as a multiple of the agreement."""

LARGEST_RELATIVE_STEP = 0.12
"""Largest relative step. 0.1 and 0.15 find nearly the same."""

SMALLEST_AGREEMENT = 0.1
"""Agreement that is counted where it is less: a mean of nine cosines near 0 is noise, and may be negative. So an s of 1
is never objected to, which is half of the edge of stability."""

WINDOW = 9
"""Last probes whose s (the median) and agreement (the mean) are taken together: lr grows by a factor of 2 in them."""

LENGTHS = 3
"""Last probes whose relative steps are taken together (the root mean square): they hardly scatter."""

FEWEST = 3
"""Probes before which no limit is looked at: a median of fewer does not survive an outlier."""

MARGIN = 2.0
"""How far lr rises beyond the one found, as a factor, so that a plot shows what comes after it."""


@dataclass(frozen=True, kw_only=True)
class RisePoint:
    """One step of the rise.

    Attributes:
        lr: Learning rate of the step, of the group with the largest.
        loss: Loss of its batch, before the step.
        s: Stability number at this lr; None if it could not be measured.
        relative_step: How far a batch's gradient leads at this lr, over the length of the weights that it moves; None
            if it could not be measured.
        agreement: Cosine between the gradients of this batch and of the one before; None for the first.
    """

    lr: float
    loss: float
    s: float | None
    relative_step: float | None
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The lr at which a limit is met, with what was measured there.

    Attributes:
        lr: The learning rate.
        reason: Which limit, in words.
        s: Median of the last stability numbers, at this lr.
        relative_step: Root mean square of the last relative steps, at this lr.
        agreement: Mean of the last agreements.
    """

    lr: float
    reason: str
    s: float | None
    relative_step: float | None
    agreement: float | None


class Search:
    """Follows a rise step by step, and says when it is over.

    Example:
        >>> search = Search()
        >>> lr = 1e-3
        >>> while not search.is_over:  # s = 200 lr and l = 0.1 lr, of batches that agree by a half
        ...     search.note(RisePoint(lr=lr, loss=1.0, s=200 * lr, relative_step=0.1 * lr, agreement=0.5))
        ...     lr *= 1.1
        >>> round(search.found.lr, 3)  # the first of the rise above 10 * 0.5 / 200
        0.026
        >>> search.found.reason
        's reached 10 times the agreement of successive gradients: 5.1 with an agreement of 0.5'
    """

    def __init__(self) -> None:
        self.curve: list[RisePoint] = []
        self.turning = TurningPoint()
        self.found: Limit | None = None
        self.is_over = False

    def note(self, point: RisePoint) -> None:
        """Note a step."""
        self.curve.append(point)
        is_finite = math.isfinite(point.loss)
        if is_finite:
            self.turning.note(point.loss, Rising(lr=point.lr, errors=ERRORS_ALONE))
        has_turned = self.turning.has_turned or not is_finite
        if self.found is None and is_finite:
            self.found = _limit_met(self.curve)
        if self.found is None and has_turned and self.turning.lowest is not None:
            lr = TURNED * self.turning.lowest.lr
            reason = f"the mean loss turned up before a limit was met: half of the lr at its lowest, {2.0 * lr:.3g}"
            self.found = _measured(self.curve, lr, reason)
        passed = self.found is not None and point.lr >= MARGIN * self.found.lr
        self.is_over = has_turned or passed

    def why_nothing(self, *, ran_dry: bool) -> str:
        """Why there is no lr, and what to do; ``ran_dry`` if there were no more batches."""
        num_steps, last = len(self.curve), self.curve[-1]
        if not math.isfinite(last.loss):
            return (
                f"the loss is {last.loss} at lr={last.lr:.3g}, after {num_steps - 1} steps, before a limit was met. "
                "Fix: look at the loss of the batch; it is not lr that makes it so at so small a step"
            )
        where = f"no limit was met in {num_steps} steps, up to lr={last.lr:.3g}"
        if last.relative_step is None:
            return f"{where}, and the last step could not be measured. Fix: look at the reason in a DCAO(...).probe"
        if ran_dry:
            return f"{where}, where the batches ended. Fix: give more of them, or a loader that starts again"
        return f"{where}, at a relative step of {last.relative_step:.2g}. Fix: give more num_steps"


def _limit_met(curve: Sequence[RisePoint]) -> Limit | None:
    """The limit that the last point of the curve has met; None if there is none."""
    if len(curve) < FEWEST:
        return None
    here = _measured(curve, curve[-1].lr, "")
    counted = max(here.agreement or 0.0, SMALLEST_AGREEMENT)
    if here.s is not None and here.agreement is not None and here.s > COST_OVER_GAIN * counted:
        reason = (
            f"s reached {COST_OVER_GAIN:g} times the agreement of successive gradients: {here.s:.2g} with an "
            f"agreement of {counted:.2g}"
        )
    elif here.relative_step is not None and here.relative_step > LARGEST_RELATIVE_STEP:
        reason = f"the relative step reached {LARGEST_RELATIVE_STEP:g}: {here.relative_step:.2g}"
    else:
        return None
    return _measured(curve, here.lr, reason)


def _measured(curve: Sequence[RisePoint], lr: float, reason: str) -> Limit:
    """What the last points say at ``lr``."""
    last, lengths = curve[-WINDOW:], curve[-LENGTHS:]
    slopes = [point.s / point.lr for point in last if point.s is not None]
    agreements = [point.agreement for point in last if point.agreement is not None]
    steps = [point.relative_step / point.lr for point in lengths if point.relative_step is not None]
    return Limit(
        lr=lr,
        reason=reason,
        s=lr * statistics.median(slopes) if slopes else None,
        relative_step=lr * math.sqrt(statistics.fmean(step * step for step in steps)) if steps else None,
        agreement=statistics.fmean(agreements) if agreements else None,
    )
