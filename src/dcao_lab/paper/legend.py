"""The legend of a figure: below its panels, in as many columns as fit."""

from collections.abc import Iterable

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from dcao_lab.paper.style import literal

_ROW = 0.165  # inches that a row of the legend takes


def add_legend(figure: Figure, entries: Iterable[tuple[str, Artist]]) -> None:
    """Add the legend and make the figure higher by as much, so that the panels keep their size."""
    unique: dict[str, Artist] = {}
    for name, artist in entries:
        unique.setdefault(name, artist)
    names = list(unique)
    if not names:
        return
    for columns in range(len(names), 0, -1):
        legend = figure.legend(
            [unique[name] for name in names],
            [literal(name) for name in names],
            loc="outside lower center",
            ncols=columns,
            columnspacing=1.2,
            borderpad=0.1,
            borderaxespad=0.1,
        )
        if columns == 1 or _width(figure, legend) <= 0.97 * figure.get_figwidth():
            break
        legend.remove()
    rows = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + rows * _ROW + 0.05)


def _width(figure: Figure, legend: Artist) -> float:
    return legend.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi
