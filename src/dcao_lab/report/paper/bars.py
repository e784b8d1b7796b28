"""Bars that lie, so that long names can be read."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcao_lab.report.figures.drawings import Axis, Bar, BarChart
from dcao_lab.report.paper.axes import set_up
from dcao_lab.report.paper.canvas import NO_BREAK, ONE_COLUMN, TWO_COLUMNS, add_legend, literal, new_figure, wrapped

_BAR_HEIGHT = 0.17  # inches
_THIN_BAR_HEIGHT = 0.135  # as high as a name; more do not fit on a page otherwise
_MANY_BARS = 30
_ANOTHER_LINE = 0.7  # of a name, in heights of a bar
_ABOVE_AND_BELOW = 0.85  # of a chart, beside its bars
_NARROWEST = 1.1  # chart
_SHORT_NAME = 40  # letters; beside these there is room for four charts
_LETTERS_AN_INCH = 18  # of the names and titles
_LETTERS_BETWEEN = 4  # from one chart to the next
_FEWEST_LETTERS = 12
_SPACE_TO_KEEP = re.compile(r"(?<!,) (?!over\b)")  # a name breaks after a comma, or before what it is compared with


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How charts share a figure.

    Attributes:
        rows: The charts, row by row.
        columns: How many stand beside each other.
        width: Of the figure, in inches.
        heights: Of the rows.
        name_letters: Letters of a line of a bar's name, at most.
        chart_letters: How wide a chart is beside the names.
    """

    rows: Sequence[Sequence[BarChart]]
    columns: int
    width: float
    heights: Sequence[float]
    name_letters: int
    chart_letters: int


def layout(charts: Sequence[BarChart], columns: int | None = None) -> Layout:
    """How the charts share a figure: four beside each other where short names do for all of a row, else two.

    Names take what the narrowest charts leave them, and break where they are longer.
    """
    longest = max(len(bar.name) for chart in charts for bar in chart.bars)
    columns = columns or min(len(charts), 4 if are_alike(charts) and longest <= _SHORT_NAME else 2)
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    times_named = 1 if all(map(are_alike, rows)) else columns
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    name_letters = int(_LETTERS_AN_INCH * (width - columns * _NARROWEST) / times_named)
    used = max(len(line) for chart in charts for bar in chart.bars for line in _name(bar, name_letters).split("\n"))
    chart_letters = int((_LETTERS_AN_INCH * width - times_named * used) / columns) - _LETTERS_BETWEEN
    is_thin = sum(map(_num_bars, rows)) > _MANY_BARS
    return Layout(
        rows=rows,
        columns=columns,
        width=width,
        heights=[_row_height(row, name_letters, is_thin=is_thin) for row in rows],
        name_letters=name_letters,
        chart_letters=max(_FEWEST_LETTERS, chart_letters),
    )


def are_alike(charts: Sequence[BarChart]) -> bool:
    """Whether they have bars of the same names."""
    return len({tuple(bar.name for bar in chart.bars) for chart in charts}) == 1


def draw_bars(charts: Sequence[BarChart], *, columns: int | None = None, note: str = "") -> Figure:
    """Charts beside each other; those of the same bars name them once a row."""
    found = layout(charts, columns)
    figure = new_figure(found.width, sum(found.heights))
    grid = figure.add_gridspec(len(found.rows), found.columns, height_ratios=found.heights)
    for number, row in enumerate(found.rows):
        for position, chart in enumerate(row):
            axes = figure.add_subplot(grid[number, position])
            _draw_bars(axes, chart, found, is_named=position == 0 or not are_alike(row))
    add_legend(figure, [], note)
    return figure


def _num_bars(row: Sequence[BarChart]) -> int:
    return max(len(chart.bars) for chart in row)


def _row_height(row: Sequence[BarChart], name_letters: int, *, is_thin: bool) -> float:
    height = _THIN_BAR_HEIGHT if is_thin else _BAR_HEIGHT
    more_lines = max(_name(bar, name_letters).count("\n") for chart in row for bar in chart.bars)
    return _ABOVE_AND_BELOW + height * _num_bars(row) * (1.0 + _ANOTHER_LINE * more_lines)


def _name(bar: Bar, letters: int) -> str:
    return wrapped(_SPACE_TO_KEEP.sub(NO_BREAK, literal(bar.name)), letters)


def _draw_bars(axes: Axes, chart: BarChart, found: Layout, *, is_named: bool) -> None:
    for position, bar in enumerate(chart.bars):
        axes.barh(position, bar.value, height=0.62, color=bar.style.color.paper, alpha=0.55)
        if bar.low is not None and bar.high is not None:
            axes.plot([bar.low, bar.high], [position, position], color="black", linewidth=1.0, solid_capstyle="butt")
        if chart.limits is not None:
            _name_if_cut(axes, position, bar.value, chart.limits)
    axes.axvline(0.0, color="black", linewidth=0.6)
    x = Axis(label=chart.paper_label, limits=chart.limits)
    set_up(axes, chart.title, x, Axis(label=""), letters=found.chart_letters)
    axes.grid(axis="y", visible=False)
    names = [_name(bar, found.name_letters) if is_named else "" for bar in chart.bars]
    axes.set_yticks(range(len(chart.bars)), names)
    axes.set_ylim(len(chart.bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _name_if_cut(axes: Axes, position: int, value: float, limits: tuple[float, float]) -> None:
    """The value of a bar that goes on beyond the axis, at its end."""
    if limits[0] <= value <= limits[1] or math.isnan(value):
        return
    is_low = value < limits[0]
    axes.annotate(
        f"{value:.3g}".replace("-", "\N{MINUS SIGN}"),
        (limits[0] if is_low else limits[1], position),
        xytext=(2 if is_low else -2, 0),
        textcoords="offset points",
        ha="left" if is_low else "right",
        va="center",
        fontsize=6,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
    )
