"""Panels of lines and points: learning curves, robustness, traces, profiles, survival, networks, densities."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dcao_lab.report.figures.axes import y_limits
from dcao_lab.report.figures.drawings import End, Panel, Series
from dcao_lab.report.figures.styles import EDGE_COLOR
from dcao_lab.report.paper.axes import set_up
from dcao_lab.report.paper.canvas import ONE_COLUMN, TWO_COLUMNS, add_legend, new_figure

PANEL_HEIGHT = 1.75
LINE = 1.3  # points
_MANY_COLUMNS = 4
_LETTERS = {1: 40, 2: 40, 3: 30, 4: 19}  # of a title, by the number of columns
_MARKERS_A_CURVE = 8
_OUTLINE = 0.8  # points, of a hollow marker
_LOST_AT = {"bottom": 0.02, "top": 0.98}  # share of the height
_TRIANGLES = {"up": "^", "down": "v", "left": "<", "right": ">"}
_MARKERS = {
    "circle": "o", "square": "s", "triangle-up": "^", "diamond": "D", "triangle-down": "v", "cross": "P", "x": "X",
    "triangle-left": "<", "triangle-right": ">", "star": "*",
}  # fmt: skip


def draw_panels(panels: Sequence[Panel], *, columns: int | None = None, note: str = "") -> Figure:
    """The figure of the panels: one is a column wide, several are two."""
    columns = columns or num_columns(len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(ONE_COLUMN if columns == 1 else TWO_COLUMNS, rows * PANEL_HEIGHT)
    entries, is_roomy = [], columns < _MANY_COLUMNS
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        entries += _draw(axes, panel, letters=_LETTERS[columns])
        if not is_roomy and index % columns:
            axes.set_ylabel("")  # as that of the first panel of the row
    if any(series.lost for panel in panels for series in panel.series):
        entries.append(("diverged", Line2D([], [], color="black", marker="x", linestyle="none", markersize=4)))
    figure.align_labels()
    add_legend(figure, entries, note)
    return figure


def num_columns(num_panels: int) -> int:
    """How many panels stand beside each other.

    Example:
        >>> [num_columns(number) for number in (1, 2, 3, 4, 5, 9)]
        [1, 2, 3, 2, 3, 3]
    """
    return 2 if num_panels == 4 else min(num_panels, 3)


def _draw(axes: Axes, panel: Panel, *, letters: int) -> list[tuple[str, Line2D]]:
    entries = [
        (series.name, _draw_series(axes, series, offset, panel.worst)) for offset, series in enumerate(panel.series)
    ]
    if panel.edge is not None:
        axes.axhline(panel.edge, color=EDGE_COLOR.paper, linewidth=1.0, zorder=1)
        axes.annotate(
            f"edge at {panel.edge:g}",
            (0.99, panel.edge),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color="#444444",
            fontsize=6.5,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5},
        )
    set_up(axes, panel.paper_title, panel.x, panel.y, y_limits=y_limits(panel), letters=letters)
    return entries


def _draw_series(axes: Axes, series: Series, offset: int, worst: End) -> Line2D:
    color = series.style.color.paper
    if series.spread and series.has_bars:
        axes.vlines(series.x, series.low, series.high, color=color, alpha=0.6, linewidth=1.0)
    elif series.spread:
        axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.15, linewidth=0)
    elif series.behind:
        for one in series.behind:
            axes.plot(one.x, one.y, "o", color=color, markersize=1.8, alpha=0.35, markeredgewidth=0)
    for x in series.lost:
        at = _LOST_AT[worst]
        axes.plot([x], [at], "x", color=color, markersize=4, transform=axes.get_xaxis_transform(), clip_on=False)
    for x, y in series.ticks:
        axes.plot([x], [y], "|", color=color, markersize=6, markeredgewidth=1.2)
    for mark in series.marks:
        (triangle,) = axes.plot(*mark.at, _TRIANGLES[mark.direction], color=color, markersize=5.5, clip_on=False)
        triangle.set(markerfacecolor="white" if series.style.dash else color, zorder=5)
    return _draw_points(axes, series) if series.shape == "points" else _draw_line(axes, series, offset)


def _draw_line(axes: Axes, series: Series, offset: int) -> Line2D:
    style = series.style
    width = LINE * style.width
    (line,) = axes.plot(
        series.x,
        series.y,
        color=style.color.paper,
        linestyle=(0, style.dash) if style.dash else "-",
        linewidth=width,
        zorder=1.5 if style.is_backdrop else 2.0 + width,  # what the study is about lies on top
        marker=None if series.markers == "none" else _MARKERS[style.marker],
        markevery=_markevery(len(series.x), offset),
        markerfacecolor="white" if style.dash else style.color.paper,
        markeredgewidth=_OUTLINE if style.dash else 0.0,
        drawstyle="steps-post" if series.shape == "steps" else "default",
    )
    return line


def _draw_points(axes: Axes, series: Series) -> Line2D:
    style = series.style
    (points,) = axes.plot(
        series.x,
        series.y,
        _MARKERS[style.marker],
        color=style.color.paper,
        alpha=0.8,
        markerfacecolor="none" if style.dash else style.color.paper,
        markeredgewidth=_OUTLINE if style.dash else 0.3,
        markeredgecolor=style.color.paper if style.dash else "white",
    )
    return points


def _markevery(num_points: int, offset: int) -> tuple[int, int] | None:
    """A few markers a curve, not at the same place for all; all of them where there are few points."""
    every = num_points // _MARKERS_A_CURVE
    return (offset % every, every) if every > 1 else None
