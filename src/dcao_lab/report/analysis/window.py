"""What of a cloud of points is in view, so that a single one far out does not press the others into a line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Point = tuple[float, float]
Direction = Literal["up", "down", "left", "right"]

_FAR = 3.0  # lengths of the middle half beyond it: Tukey's outer fence, "far out"
_READABLE = 1.5  # powers of ten beyond it that a logarithmic axis shows in any case
_MOSTLY = 0.9  # so many values have to be above zero for a logarithmic scale
_MARGIN = 0.06  # of the length of an axis


@dataclass(frozen=True, kw_only=True)
class Extent:
    """One axis of the view.

    Attributes:
        low: Its left or lower end.
        high: Its right or upper end.
        is_log: Whether it is logarithmic.
    """

    low: float
    high: float
    is_log: bool

    def nearest(self, value: float) -> float:
        """The value itself, or the end of the axis that it is beyond."""
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A view of points.

    Attributes:
        x: Its horizontal axis.
        y: Its vertical axis.
    """

    x: Extent
    y: Extent

    def edge(self, point: Point) -> Point:
        """The point itself where it is in view, else the nearest place on the edge."""
        return self.x.nearest(point[0]), self.y.nearest(point[1])

    def outside(self, points: Iterable[Point]) -> list[Point]:
        """The points that are out of view."""
        return [point for point in points if self.edge(point) != point]

    def direction(self, point: Point) -> Direction:
        """On which side of the view a point outside it is; of a corner, above or below."""
        x, y = point
        if y != self.y.nearest(y):
            return "up" if y > self.y.high else "down"
        return "right" if x > self.x.high else "left"


def window(points: Sequence[Point], *, y_is_share: bool = False) -> Window:
    """A view of all points but those far out; of a share, which has ends of its own, all are in view."""
    xs, ys = zip(*points, strict=True)
    y = _within(min(ys), max(ys), is_log=False) if y_is_share else extent(ys, is_log=_may_be_log(ys))
    return Window(x=extent(xs, is_log=_may_be_log(xs)), y=y)


def extent(values: Sequence[float], *, is_log: bool) -> Extent:
    """An axis of all values but those far out."""
    scaled = np.log10([value for value in values if value > 0.0]) if is_log else np.array(values)
    first, third = np.quantile(scaled, [0.25, 0.75])
    fence = max(_FAR * (third - first), _READABLE if is_log else 0.0)
    inside = scaled[(scaled >= first - fence) & (scaled <= third + fence)]
    return _within(float(inside.min()), float(inside.max()), is_log=is_log)


def _may_be_log(values: Sequence[float]) -> bool:
    return sum(value > 0.0 for value in values) >= _MOSTLY * len(values)


def _within(low: float, high: float, *, is_log: bool) -> Extent:
    margin = _MARGIN * (high - low) or 0.1
    low, high = low - margin, high + margin
    return Extent(low=10.0**low, high=10.0**high, is_log=True) if is_log else Extent(low=low, high=high, is_log=False)
