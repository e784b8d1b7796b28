"""What of an axis is in view: all that is usual, and not the way to infinity of a run that blew up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

Scale = Literal["log", "linear"]

STRETCH = 100.0
"""A logarithmic axis goes at most so far beyond 90 % of the values."""

LINEAR_STRETCH = 4.0
"""A linear axis goes at most so many times the span of 90 % of the values beyond them."""

HUGE = 1e100
"""No axis goes there, nor a logarithmic one below the inverse of it: an axis's own arithmetic would overflow."""

MANY_TIMES = 30.0
"""Values that differ by more than this factor are drawn on a logarithmic axis."""


def scale_of(values: Sequence[float], wanted: Scale | None = None) -> Scale:
    """The scale for some values: linear where none is positive, else what is wanted, else what shows more of them.

    Example:
        >>> scale_of([1.0, 2.0]), scale_of([0.1, 20.0]), scale_of([-1.0, 20.0])
        ('linear', 'log', 'linear')
        >>> scale_of([-1.0, 20.0], "log"), scale_of([-1.0, 0.0], "log")
        ('log', 'linear')
    """
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0.0]
    if not positive:
        return "linear"
    shows_more = len(positive) == len(finite) and max(positive) > MANY_TIMES * min(positive)
    return wanted or ("log" if shows_more else "linear")


def view(values: Sequence[float], scale: Scale, *, keep: Iterable[float] = ()) -> tuple[float, float]:
    """The ends of an axis for some values and for what has to be in view in any case, with a margin.

    Example:
        >>> low, high = view([1.0, *[2.0] * 30, 1e9], "log")
        >>> 0.5 < low < 1.0, 200.0 < high < 400.0
        (True, True)
        >>> view([1.0, 3.0, float("nan")], "linear", keep=[4.0])
        (0.85, 4.15)
    """
    is_log = scale == "log"
    finite, kept = (
        sorted(math.log(value) if is_log else value for value in found if _has_a_place(value, scale))
        for found in (values, keep)
    )
    if not finite:
        finite = kept or [0.0]
    usual_low, usual_high = _quantiles(finite)
    reach = math.log(STRETCH) if is_log else LINEAR_STRETCH * (usual_high - usual_low) or math.inf
    low = min(max(finite[0], usual_low - reach), *kept, math.inf)
    high = max(min(finite[-1], usual_high + reach), *kept, -math.inf)
    margin = 0.05 * (high - low) or (math.log(1.5) if is_log else 0.05 * abs(high) or 1.0)
    return (math.exp(low - margin), math.exp(high + margin)) if is_log else (low - margin, high + margin)


def _has_a_place(value: float, scale: Scale) -> bool:
    return 1.0 / HUGE < value < HUGE if scale == "log" else abs(value) < HUGE


def _quantiles(ordered: Sequence[float]) -> tuple[float, float]:
    """The 5 % and the 95 % quantile."""
    if len(ordered) == 1:
        return ordered[0], ordered[0]
    cuts = statistics.quantiles(ordered, n=20, method="inclusive")
    return cuts[0], cuts[-1]
