"""What a figure shows, as plain data: the numbers are made elsewhere, the ink here and in the files beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from dcao_lab.paper.style import LineStyle

Scale = Literal["linear", "log"]
End = Literal["bottom", "top"]
Format = Literal["number", "share"]
Direction = Literal["up", "down", "left", "right"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of a panel.

    Attributes:
        label: What it says.
        scale: Linear or logarithmic.
        format: ``share`` shows 0.5 as 50 %.
        limits: Ends; None: as the data need.
        ticks: Where its numbers are; empty: as they fit.
        tick_labels: What is at the ticks; empty: the numbers themselves.
    """

    label: str
    scale: Scale = "linear"
    format: Format = "number"
    limits: tuple[float, float] | None = None
    ticks: Sequence[float] = ()
    tick_labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a panel.

    Attributes:
        label: Name in the legend; the same name is there once.
        style: Its colour, dash and marker.
        x: Where it is.
        y: What it is; nan leaves a gap.
        low: Lower edge of the band around it; None: no band.
        high: Upper edge.
        is_step: Whether it keeps its value up to the next x.
        is_marked: Whether markers are on it.
        has_bars: Whether an upright bar at each point, rather than a band, goes from ``low`` to ``high``.
        ticks: Points that get a small upright tick, such as the censored runs of a survival curve.
        lost: Where there is no value because training diverged: a cross at the worst end of the panel.
        faint: Values behind the line, as dots: the probes that a running median smooths.
    """

    label: str
    style: LineStyle
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    is_step: bool = False
    is_marked: bool = True
    has_bars: bool = False
    ticks: Sequence[tuple[float, float]] = ()
    lost: Sequence[float] = ()
    faint: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A coordinate system with its curves.

    Attributes:
        title: Above it, for example the workload.
        x: Horizontal axis.
        y: Vertical axis.
        curves: What is drawn.
        edge: Height of a line across, such as the edge of stability; None: none.
        edge_label: What that line is.
        worst: Which end of the vertical axis is the worst.
    """

    title: str
    x: Axis
    y: Axis
    curves: Sequence[Curve] = field(default=())
    edge: float | None = None
    edge_label: str = ""
    worst: End = "top"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A figure of panels.

    Attributes:
        panels: Row by row.
        columns: How many stand beside each other; None: as many as can.
        note: What has to be known to read them, below them.
    """

    panels: Sequence[Panel]
    columns: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of a chart: the distance from zero to a value, and its interval.

    Attributes:
        label: What it stands for.
        value: Its length, with a sign; nan: there is no bar.
        low: Lower end of the interval; None: no interval.
        high: Upper end.
        style: Colour.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    style: LineStyle


@dataclass(frozen=True, kw_only=True)
class BarChart:
    """Bars under each other.

    Attributes:
        title: Above it.
        x: The axis that the bars lie along.
        bars: From top to bottom.
    """

    title: str
    x: Axis
    bars: Sequence[Bar]


@dataclass(frozen=True, kw_only=True)
class BarSheet:
    """A figure of charts.

    Attributes:
        charts: Row by row.
        columns: How many stand beside each other; None: as many as can.
        note: What has to be known to read them, below them.
    """

    charts: Sequence[BarChart]
    columns: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Points of a scatter plot that belong together.

    Attributes:
        label: Name in the legend.
        style: Their colour and marker.
        x: Where they are.
        y: What they are.
        marks: Places on the edge with a triangle for a point beyond it, and which way it points.
    """

    label: str
    style: LineStyle
    x: Sequence[float]
    y: Sequence[float]
    marks: Sequence[tuple[float, float, Direction]] = ()


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Points against two axes.

    Attributes:
        title: Above it.
        x: Horizontal axis.
        y: Vertical axis.
        clouds: The points.
    """

    title: str
    x: Axis
    y: Axis
    clouds: Sequence[Cloud]


@dataclass(frozen=True, kw_only=True)
class RankDiagram:
    """Mean ranks on a line, and which of them chance explains.

    Attributes:
        labels: Names, best first.
        ranks: Mean ranks, in that order.
        critical_difference: Ranks further apart than this differ.
        groups: First and last position of each set that does not differ.
    """

    labels: Sequence[str]
    ranks: Sequence[float]
    critical_difference: float
    groups: Sequence[tuple[int, int]]
