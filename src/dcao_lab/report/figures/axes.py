"""Axes that several figures share, and what of the data is in view."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from dcao_lab.report import formats
from dcao_lab.report.figures.drawings import Axis, Panel
from dcao_lab.workloads import WorkloadInfo

T = TypeVar("T")

STEPS = Axis(label="step")
EVALUATIONS = Axis(label="gradient evaluations")
MAX_POINTS = 200  # a trace of thousands of probes looks the same and makes a page heavy
MOST_TICKS = 6  # powers of ten with a number each
STRETCH = 100.0  # a logarithmic axis goes at most so far beyond 90 % of its values


def metric_axis(info: WorkloadInfo, split: str = "test") -> Axis:
    """The axis of a workload's own metric: a share, or logarithmic."""
    is_share = info.metric == "accuracy"
    return Axis(label=formats.metric_title(info, split), scale="linear" if is_share else "log", is_share=is_share)


def share_axis(label: str) -> Axis:
    """An axis from 0 to 100 %."""
    return Axis(label=label, is_share=True, limits=(-0.03, 1.05))


def y_limits(panel: Panel) -> tuple[float, float] | None:
    """The ends of the vertical axis for the series that the panel has; None: all values are in view."""
    if panel.y.limits is not None or panel.y.scale == "linear":
        return panel.y.limits
    return reach(panel.values(), keep=panel.y.keep)


def reach(values: Iterable[float], *, keep: Sequence[float] = ()) -> tuple[float, float] | None:
    """Ends of a logarithmic axis that a value on its way to infinity (or to zero) does not stretch.

    Returns:
        Ends at most a hundred times beyond 90 % of the values, with a margin; None where no value is positive.

    Example:
        >>> low, high = reach([1.0, *[2.0] * 30, 1e9])
        >>> 0.5 < low < 1.0, 200.0 < high < 400.0
        (True, True)
    """
    positive = sorted(value for value in values if 0.0 < value < math.inf)
    if not positive:
        return None
    usual_low, usual_high = np.quantile(positive, [0.05, 0.95])
    low = min(max(positive[0], usual_low / STRETCH), *keep, math.inf)
    high = max(min(positive[-1], usual_high * STRETCH), *keep, 0.0)
    margin = (high / low) ** 0.05 if high > low else 1.5
    return float(low / margin), float(high * margin)


def ticks(limits: tuple[float, float]) -> list[float]:
    """Round numbers on a logarithmic axis: powers of ten, or 1, 2 and 5 times these where there is one at most.

    Example:
        >>> ticks((5.0, 150.0)), ticks((3.0, 30.0)), ticks((1e-9, 1.0))
        ([10.0, 100.0], [5.0, 10.0, 20.0], [1e-09, 1e-07, 1e-05, 0.001, 0.1])
    """
    low, high = sorted(limits)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [[float(f"{first}e{power}") for power in powers for first in firsts] for firsts in ((1,), (1, 2, 5))]
    tens, more = ([value for value in values if low <= value <= high] for values in found)
    return tens[:: 1 + len(tens) // MOST_TICKS] if len(tens) > 1 else more


def thinned(items: Iterable[T], most: int = MAX_POINTS) -> list[T]:
    """At most ``most`` of the items, evenly spread, first and last kept.

    Example:
        >>> thinned(range(9), 3)
        [0, 4, 8]
    """
    found = list(items)
    if len(found) <= most:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, most).round().astype(int)]
