"""What a figure shows, as plain data: an ink (``report/html``, ``report/paper``) turns it into a picture."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dcao_lab.report.analysis.window import Direction
from dcao_lab.report.figures.styles import Color, Style

Scale = Literal["linear", "log"]
End = Literal["bottom", "top"]
Shape = Literal["line", "steps", "points"]
Markers = Literal["all", "few", "none"]
Side = Literal["above", "left", "right"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of a panel.

    Attributes:
        label: Its title.
        scale: Linear or logarithmic.
        is_share: Whether 0.5 is shown as 50 %.
        limits: Its ends, the larger one first where it runs backwards; None: as the data need (see
            :func:`dcao_lab.report.figures.axes.reach`).
        keep: Values that are in view even where no data are.
        ticks: Where its numbers are; empty: as they fit.
        tick_labels: What is written at the ticks; empty: the numbers themselves.
    """

    label: str
    scale: Scale = "linear"
    is_share: bool = False
    limits: tuple[float, float] | None = None
    keep: tuple[float, ...] = ()
    ticks: Sequence[float] = ()
    tick_labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point out of view, shown by a triangle at the edge.

    Attributes:
        at: The place on the edge.
        direction: Which way the triangle points.
        point: Where the point really is.
    """

    at: tuple[float, float]
    direction: Direction
    point: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Label:
    """Words beside a point of a panel, instead of a legend.

    Attributes:
        text: The words.
        x: Where the point is.
        y: Likewise.
        side: Where the words are from there.
        color: Their colour; None: that of other text.
        is_at_end: Whether words above end at the point, rather than begin there.
    """

    text: str
    x: float
    y: float
    side: Side
    color: Color | None = None
    is_at_end: bool = False


@dataclass(frozen=True, kw_only=True)
class Level:
    """A thin line across a panel, to compare with.

    Attributes:
        y: Its height.
        name: What it is, above the panel; empty: a label or nothing says so.
    """

    y: float
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of the horizontal axis, with its name at the top.

    Attributes:
        first: Where it begins.
        end: Where it ends.
        name: What it is called.
    """

    first: float
    end: float
    name: str


@dataclass(frozen=True, kw_only=True)
class Series:
    """What a panel shows of one arm.

    Attributes:
        style: The arm and how it is drawn.
        label: Name in the legend, where each name appears once; empty: the arm's title.
        x: Horizontal positions.
        y: Values; nan leaves a gap.
        shape: A line, a line that keeps its value up to the next x, or points alone.
        markers: Which points of a line have a marker: ``few`` tell lines apart where there is no colour.
        spread: What the spread around the line is called; empty: none is shown.
        low: Lower edge of the spread.
        high: Upper edge.
        has_bars: Whether the spread is an upright bar at each point rather than a band.
        behind: The runs or probes that the line sums up, drawn faintly; a page prefers them to the spread.
        clocks: What a page can show on the horizontal axis instead of ``x``, by name.
        ticks: Points with a small upright tick, such as the censored runs of a survival curve.
        lost: Where there is no value because training diverged: a cross at the worst end of the panel.
        marks: Points out of view.
        is_extra: Whether a page shows it only when asked for all arms, and a paper not at all.
    """

    style: Style
    label: str = ""
    x: Sequence[float]
    y: Sequence[float]
    shape: Shape = "line"
    markers: Markers = "few"
    spread: str = ""
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    has_bars: bool = False
    behind: Sequence["Series"] = ()
    clocks: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ticks: Sequence[tuple[float, float]] = ()
    lost: Sequence[float] = ()
    marks: Sequence[Mark] = ()
    is_extra: bool = False

    @property
    def name(self) -> str:
        """What the legend calls it."""
        return self.label or self.style.title


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A coordinate system with its series.

    Attributes:
        title: What it is called on a page, where a heading names the workload.
        paper_title: What it is called on paper, where the panels of all workloads share a figure.
        x: Horizontal axis.
        y: Vertical axis.
        series: What is drawn.
        edge: Height of a line across, the edge of stability; None: no line.
        worst: Which end of the vertical axis is the worst.
        labels: Words in it; a page alone has them, and what follows.
        levels: Thin lines across.
        spans: Parts of the horizontal axis; every other one is shaded.
    """

    title: str
    paper_title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    edge: float | None = None
    worst: End = "top"
    labels: Sequence[Label] = ()
    levels: Sequence[Level] = ()
    spans: Sequence[Span] = ()

    def showing(self, arms: Collection[str]) -> "Panel":
        """The panel with the series of all other arms as extras, which have neither spread nor runs."""
        series = [
            one if one.style.arm in arms else replace(one, is_extra=True, spread="", behind=()) for one in self.series
        ]
        return replace(self, series=series)

    def without_extras(self) -> "Panel":
        """The panel as a paper has it."""
        return replace(self, series=[series for series in self.series if not series.is_extra])

    @property
    def is_empty(self) -> bool:
        """Whether nothing in it has a value."""
        return not any(map(math.isfinite, self.values()))

    @property
    def has_lines(self) -> bool:
        """Whether it has anything drawn beside its series."""
        return self.edge is not None or bool(self.levels or self.spans)

    @property
    def has_words(self) -> bool:
        """Whether it has words inside."""
        return self.edge is not None or bool(self.labels or self.levels or self.spans)

    def values(self) -> Iterator[float]:
        """The values of all series, and of what is behind them."""
        return (value for series in self.series for one in (series, *series.behind) for value in one.y)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value on a line of its own.

    Attributes:
        style: The arm and how it is drawn.
        label: Name of the line; empty: the arm's title.
        value: The value; nan: the line is empty.
        low: Lower end of the interval; None: no interval.
        high: Upper end.
    """

    style: Style
    label: str = ""
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def name(self) -> str:
        """What its line is called."""
        return self.label or self.style.title


@dataclass(frozen=True, kw_only=True)
class BarChart:
    """Values below each other: bars from zero, points, or mean ranks.

    Attributes:
        title: What it is called.
        label: Title of the axis that the values lie along, on a page.
        paper_label: The same on paper, where no title above names the reference.
        bars: From top to bottom.
        from_zero: Whether a value is a bar from zero, to the right for better, rather than a point.
        limits: Ends of the axis on paper; bars beyond are cut. A page shows the whole of every bar, unless ``is_cut``.
        is_cut: Whether the page's axis has these limits too.
        is_share: Whether 0.5 is shown as 50 %.
        critical_difference: Ranks further apart than this differ; None: the values are no ranks.
        groups: First and last position of each set of ranks that do not differ.
    """

    title: str
    label: str
    paper_label: str = ""
    bars: Sequence[Bar]
    from_zero: bool = True
    limits: tuple[float, float] | None = None
    is_cut: bool = False
    is_share: bool = False
    critical_difference: float | None = None
    groups: Sequence[tuple[int, int]] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no line has a value."""
        return all(math.isnan(bar.value) for bar in self.bars)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A figure of a paper.

    Attributes:
        name: Name of its file, without the ending.
        drawings: Its panels or its charts, row by row; a chart of mean ranks has a figure to itself.
        columns: How many stand beside each other; None: as many as fit.
        note: What a reader has to know, written below them.
    """

    name: str
    drawings: Sequence[Panel] | Sequence[BarChart]
    columns: int | None = None
    note: str = ""
