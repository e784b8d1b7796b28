"""What of a vertical axis is in view, alike in the terminal and on the page."""

import math
from dataclasses import dataclass

import numpy as np

from dcao_lab.watching.thinning import Numbers

MANY_TIMES = 30.0
"""Positive values that differ by more than this factor are drawn on a logarithmic axis."""

STRETCH = 4.0
"""An axis goes at most so many times the span of 90 % of the values beyond them: a blow-up hides no curve."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A vertical axis.

    Attributes:
        low: Value at its lower end.
        high: Value at its upper end.
        is_log: Whether it is logarithmic.
    """

    low: float
    high: float
    is_log: bool

    def heights(self, values: Numbers) -> Numbers:
        """How far up the axis values are: 0 at its lower end, 1 at its upper; nan where they have no place."""
        if not self.is_log:
            return (values - self.low) / (self.high - self.low)
        logs = np.log(np.where(values > 0.0, values, np.nan))
        found: Numbers = (logs - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return found


def axis_of(values: Numbers, *, is_log: bool | None = None, keep: tuple[float, ...] = ()) -> Axis:
    """The axis for some values and for what has to be in view in any case.

    Args:
        values: What is drawn; what is not finite has no place on it.
        is_log: Whether it is logarithmic; None: where that shows more.
        keep: Values that are in view whatever is drawn.

    Example:
        >>> axis = axis_of(np.array([0.0, 1.0]), keep=(2.0,))
        >>> round(axis.low, 2), round(axis.high, 2), axis.is_log
        (-0.1, 2.1, False)
    """
    finite = values[np.isfinite(values)]
    is_positive = bool(finite.size) and bool(finite.min() > 0.0)
    if is_log is None:
        is_log = is_positive and bool(finite.max() > MANY_TIMES * finite.min())
    is_log = is_log and is_positive
    shown, kept = (np.log(found) if is_log else found for found in (finite, np.array(keep)))
    low, high = _ends(shown, kept)
    margin = 0.05 * (high - low) or (math.log(1.5) if is_log else 0.05 * abs(high) or 1.0)
    low, high = low - margin, high + margin
    return (
        Axis(low=math.exp(low), high=math.exp(high), is_log=True) if is_log else Axis(low=low, high=high, is_log=False)
    )


def _ends(values: Numbers, kept: Numbers) -> tuple[float, float]:
    if not values.size:
        values = kept if kept.size else np.zeros(1)
    usual_low, usual_high = np.quantile(values, [0.05, 0.95])
    reach = STRETCH * (usual_high - usual_low) or math.inf
    low, high = max(values.min(), usual_low - reach), min(values.max(), usual_high + reach)
    return float(np.min([low, *kept])), float(np.max([high, *kept]))
