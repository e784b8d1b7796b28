"""The numbers along a vertical axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from dcao.plotting.limits import Scale
from dcao.plotting.spelling import spelled

ROUND = [1, 2, 2.5, 5, 10]
"""First digits of the distance between two ticks."""

FEW_DECADES = 1.7
"""An axis of fewer decades has ticks at 2 and 5 as well."""

FEWEST_DECADES = 0.8
"""One of fewer than these is divided evenly."""


def set_ticks(axes: Axes, scale: Scale, values: Sequence[float]) -> None:
    """Few ticks at round numbers, or one where all values are the same; the limits and the scale are set before."""
    low, high = axes.get_ylim()
    finite = {value for value in values if math.isfinite(value)}
    ticks = axes.yaxis
    decades = math.log10(high / low) if scale == "log" else 0.0
    if len(finite) == 1:
        ticks.set_major_locator(FixedLocator(list(finite)))
    elif decades < FEWEST_DECADES:
        ticks.set_major_locator(MaxNLocator(nbins=4, steps=ROUND))
    else:
        ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < FEW_DECADES else (1.0,), numticks=5))
    ticks.set_minor_locator(NullLocator())
    ticks.set_major_formatter(FuncFormatter(lambda value, _: spelled(value)))
