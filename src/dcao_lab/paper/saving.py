"""Figures to files: the same bytes for the same figure."""

import warnings
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dcao_lab.paper.style import PIXELS_PER_INCH

_NO_DATES = {
    "pdf": {"Creator": "dcao_lab", "Producer": None, "CreationDate": None},
    "png": {"Software": None},
}


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
