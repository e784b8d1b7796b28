"""Panels of curves: learning curves, robustness, traces, profiles, survival, densities."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dcao_lab.paper.axes import set_up
from dcao_lab.paper.drawings import Curve, End, Panel
from dcao_lab.paper.legend import add_legend
from dcao_lab.paper.saving import new_figure
from dcao_lab.paper.style import EDGE_COLOR, ONE_COLUMN, TWO_COLUMNS, literal

PANEL_HEIGHT = 1.75
_MANY_COLUMNS = 4
_MARKERS_A_CURVE = 8
_LOST_AT = {"bottom": 0.02, "top": 0.98}  # share of the height


def draw_panels(panels: Sequence[Panel], *, columns: int | None = None, note: str = "") -> Figure:
    """The figure of the panels: one is a column wide, several are two."""
    columns = columns or num_columns(len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(ONE_COLUMN if columns == 1 else TWO_COLUMNS, rows * PANEL_HEIGHT)
    entries, is_roomy = [], columns < _MANY_COLUMNS
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        entries += _draw(axes, panel, letters=30 if is_roomy else 19)
        if not is_roomy and index % columns:
            axes.set_ylabel("")  # as that of the first panel of the row
    if any(curve.lost for panel in panels for curve in panel.curves):
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
        (curve.label, _draw_curve(axes, curve, offset, panel.worst)) for offset, curve in enumerate(panel.curves)
    ]
    if panel.edge is not None:
        axes.axhline(panel.edge, color=EDGE_COLOR, linewidth=1.0, zorder=1)
        axes.annotate(
            literal(panel.edge_label),
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
    set_up(axes, panel.title, panel.x, panel.y, letters=letters)
    return entries


def _draw_curve(axes: Axes, curve: Curve, offset: int, worst: End) -> Line2D:
    style = curve.style
    step = "post" if curve.is_step else None
    if curve.faint is not None:
        axes.plot(curve.x, curve.faint, "o", color=style.color, markersize=1.8, alpha=0.35, markeredgewidth=0)
    if curve.has_bars:
        axes.vlines(curve.x, curve.low, curve.high, color=style.color, alpha=0.6, linewidth=1.0)
    elif curve.low is not None:
        axes.fill_between(curve.x, curve.low, curve.high, step=step, color=style.color, alpha=0.15, linewidth=0)
    (line,) = axes.plot(
        curve.x,
        curve.y,
        color=style.color,
        linestyle=style.dash,
        linewidth=style.width,
        zorder=2.0 + style.width,  # what the study is about lies on top
        marker=style.marker if curve.is_marked else None,
        markevery=_markevery(len(curve.x), offset),
        markeredgewidth=0.0,
        drawstyle="steps-post" if curve.is_step else "default",
    )
    for x in curve.lost:
        at = _LOST_AT[worst]
        axes.plot([x], [at], "x", color=style.color, markersize=4, transform=axes.get_xaxis_transform(), clip_on=False)
    for x, y in curve.ticks:
        axes.plot([x], [y], "|", color=style.color, markersize=6, markeredgewidth=1.2)
    return line


def _markevery(num_points: int, offset: int) -> tuple[int, int] | None:
    """A few markers a curve, not at the same place for all; all of them where there are few points."""
    every = num_points // _MARKERS_A_CURVE
    return (offset % every, every) if every > 1 else None
