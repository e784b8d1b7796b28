"""Bars that lie, so that long names can be read."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcao_lab.report.figures.drawings import Axis, BarChart
from dcao_lab.report.paper.axes import set_up
from dcao_lab.report.paper.canvas import ONE_COLUMN, TWO_COLUMNS, add_legend, literal, new_figure

_BAR_HEIGHT = 0.17
_THIN_BAR_HEIGHT = 0.135  # as high as a name; more do not fit on a page otherwise
_MANY_BARS = 30
_LETTERS_AN_INCH = 18  # of the names and titles
_LETTERS_BETWEEN = 3  # from one chart to the next
_FEWEST_LETTERS = 12


def draw_bars(charts: Sequence[BarChart], *, columns: int | None = None, note: str = "") -> Figure:
    """Charts beside each other, their bars lying, so that long names can be read.

    Charts of the same bars name them once a row, which leaves room for four if the names are short.
    """
    is_roomy = _are_alike(charts) and _names_width(charts) < TWO_COLUMNS / 3
    columns = columns or min(len(charts), 4 if is_roomy else 2)
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    nums_bars = [max(len(chart.bars) for chart in row) for row in rows]
    height = _BAR_HEIGHT if sum(nums_bars) <= _MANY_BARS else _THIN_BAR_HEIGHT
    heights = [0.85 + height * number for number in nums_bars]
    figure = new_figure(ONE_COLUMN if columns == 1 else TWO_COLUMNS, sum(heights))
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    for number, row in enumerate(rows):
        for position, chart in enumerate(row):
            axes = figure.add_subplot(grid[number, position])
            is_named = position == 0 or not _are_alike(row)
            _draw_bars(axes, chart, is_named=is_named, letters=_letters(figure, charts, columns))
    add_legend(figure, [], note)
    return figure


def _are_alike(charts: Sequence[BarChart]) -> bool:
    return len({tuple(bar.name for bar in chart.bars) for chart in charts}) == 1


def _names_width(charts: Sequence[BarChart]) -> float:
    """Inches that the longest name of a bar takes, about."""
    return max(len(bar.name) for chart in charts for bar in chart.bars) / _LETTERS_AN_INCH


def _letters(figure: Figure, charts: Sequence[BarChart], columns: int) -> int:
    """How wide a chart is beside the names."""
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    times_named = 1 if all(map(_are_alike, rows)) else columns
    inches = (figure.get_figwidth() - times_named * _names_width(charts)) / columns
    return max(_FEWEST_LETTERS, int(_LETTERS_AN_INCH * inches) - _LETTERS_BETWEEN)


def _draw_bars(axes: Axes, chart: BarChart, *, is_named: bool, letters: int) -> None:
    for position, bar in enumerate(chart.bars):
        axes.barh(position, bar.value, height=0.62, color=bar.style.color.paper, alpha=0.55)
        if bar.low is not None and bar.high is not None:
            axes.plot([bar.low, bar.high], [position, position], color="black", linewidth=1.0, solid_capstyle="butt")
        if chart.limits is not None:
            _name_if_cut(axes, position, bar.value, chart.limits)
    axes.axvline(0.0, color="black", linewidth=0.6)
    x = Axis(label=chart.paper_label, limits=chart.limits)
    set_up(axes, chart.title, x, Axis(label=""), letters=letters)
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(chart.bars)), [literal(bar.name) if is_named else "" for bar in chart.bars])
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
