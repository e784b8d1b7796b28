"""The picture of a spectral density, in the style of the report's."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import style
from matplotlib.figure import Figure

import dcao
from dcao_lab.report import formats
from dcao_lab.report.analysis.solutions import smoothed_density
from dcao_lab.report.figures.drawings import Axis
from dcao_lab.report.figures.solutions import SMALLEST_DENSITY, density_grid
from dcao_lab.report.figures.styles import COLORS, EDGE_COLOR
from dcao_lab.report.paper.axes import set_up
from dcao_lab.report.paper.canvas import RC, TWO_COLUMNS, add_legend, new_figure
from dcao_lab.report.paper.panels import LINE

HEIGHT = 2.4  # inches
TITLE_LETTERS = 100


def write_picture(path: Path, title: str, density: dcao.SpectralDensity, top: Sequence[float]) -> None:
    """Draw a density of the loss Hessian into a file, the largest Ritz values as marks below it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style.context(["default", RC]):
        draw(title, density, top).savefig(path)


def draw(title: str, density: dcao.SpectralDensity, top: Sequence[float]) -> Figure:
    """The figure, which says how wide the density was smoothed: no finer detail of it is real."""
    nodes = density.nodes.tolist()
    grid, width = density_grid([nodes])
    found = smoothed_density(nodes, density.weights.tolist(), grid, width)
    values = [max(value, SMALLEST_DENSITY) for value in found]
    figure = new_figure(TWO_COLUMNS, HEIGHT)
    axes = figure.add_subplot()
    axes.plot(grid, values, color=COLORS[0].paper, linewidth=LINE)
    axes.fill_between(grid, SMALLEST_DENSITY, values, color=COLORS[0].paper, alpha=0.15, linewidth=0)
    look = {"markersize": 7, "markeredgewidth": 1.2, "linestyle": "none", "clip_on": False}
    (marks,) = axes.plot(top, [SMALLEST_DENSITY] * len(top), "|", color=EDGE_COLOR.paper)
    marks.set(**look)
    limits = (SMALLEST_DENSITY, 3.0 * max(values))
    x = Axis(label="eigenvalue of the loss Hessian")
    set_up(axes, title, x, Axis(label="density", scale="log"), y_limits=limits, letters=TITLE_LETTERS)
    note = (
        f"Smoothing: a Gaussian of standard deviation {formats.significant(width, 2)}, a hundredth of the range of the "
        f"{formats.count(len(nodes))} quadrature nodes."
    )
    add_legend(figure, [("largest Ritz values", marks)], note)
    return figure
