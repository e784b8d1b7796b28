"""The legend of a figure, and a note: below its panels, in as many columns as fit."""

from collections.abc import Iterable

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dcao_lab.paper.axes import wrapped
from dcao_lab.paper.style import literal

_LETTERS_AN_INCH = 12  # of a name that has a line to itself, its sample included
_NOTE_SIZE = 6.5
_NOTE_LETTERS_AN_INCH = 18
_PADDING = 0.06  # inches


def add_legend(figure: Figure, entries: Iterable[tuple[str, Artist]], note: str = "") -> None:
    """Add the legend and make the figure higher by as much, so that the panels keep their size.

    The note is the legend's title: matplotlib's layout makes room for a legend below the panels, not for a text.
    """
    unique: dict[str, Artist] = {}
    for name, artist in entries:
        unique.setdefault(name, artist)
    letters = int(_LETTERS_AN_INCH * figure.get_figwidth())
    title = wrapped(literal(note), int(_NOTE_LETTERS_AN_INCH * figure.get_figwidth()))
    if not unique and not note:
        return
    for columns in range(max(1, len(unique)), 0, -1):
        legend = figure.legend(
            list(unique.values()),
            [wrapped(literal(name), letters) for name in unique],
            loc="outside lower center",
            ncols=columns,
            title=title or None,
            title_fontsize=_NOTE_SIZE,
            alignment="left",
            columnspacing=1.2,
            borderpad=0.1,
            borderaxespad=0.1,
        )
        size = _inches(figure, legend)
        if columns == 1 or size.width <= 0.97 * figure.get_figwidth():
            figure.set_figheight(figure.get_figheight() + size.height + _PADDING)
            break
        legend.remove()


def _inches(figure: Figure, legend: Artist) -> Bbox:
    found = legend.get_window_extent(figure.canvas.get_renderer())
    return Bbox.from_bounds(0.0, 0.0, found.width / figure.dpi, found.height / figure.dpi)
