"""An empty figure of a paper, its legend and its files: the same bytes for the same figure."""

import textwrap
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NO_BREAK = "\N{NO-BREAK SPACE}"
ONE_COLUMN = 3.25  # inches, of a two-column paper
TWO_COLUMNS = 6.75
PIXELS_PER_INCH = 200  # twice a screen's 100: the documentation shows these pictures at half their size

RC = {
    "font.family": "DejaVu Sans",  # matplotlib brings it, so the pictures are the same wherever they are made
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "pdf.fonttype": 42,  # TrueType, as publishers ask; the default type 3 is refused by some
}

_NO_DATES: dict[str, dict[str, str | None]] = {
    "pdf": {"Creator": "dcao_lab", "Producer": None, "CreationDate": None},
    "png": {"Software": None},
}
_LETTERS_AN_INCH = 12  # of a name that has a line to itself, its sample included
_NOTE_SIZE = 6.5
_NOTE_LETTERS_AN_INCH = 18
_PADDING = 0.06  # inches


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches; nothing global knows of it, so it goes when its last user does."""
    figure = Figure(figsize=(width, height), dpi=PIXELS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """The paths of the figure as ``name.pdf`` and ``name.png``."""
    paths = [folder / f"{name}.{kind}" for kind in _NO_DATES]
    with warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes; that is no reason to have no figure
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for path in paths:
            kind = path.suffix[1:]
            figure.savefig(path, format=kind, metadata=_NO_DATES[kind])
    return paths


def add_legend(figure: Figure, entries: Iterable[tuple[str, Artist]], note: str = "") -> None:
    """Add the legend and a note below the panels, and make the figure higher by as much.

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
        width, height = size_of(figure, legend)
        if columns == 1 or width <= 0.97 * figure.get_figwidth():
            figure.set_figheight(figure.get_figheight() + height + _PADDING)
            break
        legend.remove()


def size_of(figure: Figure, artist: Artist) -> tuple[float, float]:
    """Width and height of something in the figure, in inches."""
    canvas: Any = figure.canvas  # its types do not know of the renderer, which measures texts
    found = artist.get_window_extent(canvas.get_renderer())
    return found.width / figure.dpi, found.height / figure.dpi


def wrapped(text: str, longest: int) -> str:
    """Text in lines of at most ``longest`` letters, where it has spaces to break at."""
    return "\n".join(textwrap.wrap(text, longest, break_long_words=False))


def literal(text: str) -> str:
    r"""Text that matplotlib shows as it is; two dollar signs would be a formula.

    Example:
        >>> print(literal("$5 or $6"))
        \$5 or \$6
    """
    return text.replace("$", r"\$")
