"""Bars and scatter plots."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcao_lab.paper.axes import set_up
from dcao_lab.paper.drawings import Axis, BarChart, Scatter
from dcao_lab.paper.legend import add_legend
from dcao_lab.paper.panels import PANEL_HEIGHT, num_columns
from dcao_lab.paper.saving import new_figure
from dcao_lab.paper.style import ONE_COLUMN, TWO_COLUMNS, literal

_BAR_HEIGHT = 0.17


def draw_bars(charts: Sequence[BarChart]) -> Figure:
    """Charts beside each other, their bars lying, so that long names can be read.

    Charts of the same bars name them once a row, which leaves room for four.
    """
    is_shared = len({tuple(bar.label for bar in chart.bars) for chart in charts}) == 1
    columns = min(len(charts), 4 if is_shared else 2)
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    heights = [0.85 + _BAR_HEIGHT * max(len(chart.bars) for chart in row) for row in rows]
    figure = new_figure(ONE_COLUMN if columns == 1 else TWO_COLUMNS, sum(heights))
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    for number, row in enumerate(rows):
        for position, chart in enumerate(row):
            axes = figure.add_subplot(grid[number, position])
            _draw_bars(axes, chart, is_named=position == 0 or not is_shared, letters=30 if columns < 3 else 22)
    return figure


def _draw_bars(axes: Axes, chart: BarChart, *, is_named: bool, letters: int) -> None:
    for position, bar in enumerate(chart.bars):
        axes.barh(position, bar.value, height=0.62, color=bar.style.color, alpha=0.55)
        if bar.low is not None:
            axes.plot([bar.low, bar.high], [position, position], color="black", linewidth=1.0, solid_capstyle="butt")
    axes.axvline(0.0, color="black", linewidth=0.6)
    set_up(axes, chart.title, chart.x, Axis(label=""), letters=letters)
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(chart.bars)), [literal(bar.label) if is_named else "" for bar in chart.bars])
    axes.set_ylim(len(chart.bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def draw_scatters(scatters: Sequence[Scatter]) -> Figure:
    """Scatter plots beside each other, three a row."""
    columns = num_columns(len(scatters))
    rows = -(-len(scatters) // columns)
    figure = new_figure(ONE_COLUMN if columns == 1 else TWO_COLUMNS, rows * PANEL_HEIGHT)
    entries = []
    for index, scatter in enumerate(scatters):
        axes = figure.add_subplot(rows, columns, index + 1)
        for cloud in scatter.clouds:
            (points,) = axes.plot(
                cloud.x,
                cloud.y,
                cloud.style.marker,
                color=cloud.style.color,
                alpha=0.8,
                markeredgewidth=0.3,
                markeredgecolor="white",
            )
            entries.append((cloud.label, points))
        set_up(axes, scatter.title, scatter.x, scatter.y)
    figure.align_labels()
    add_legend(figure, entries)
    return figure
