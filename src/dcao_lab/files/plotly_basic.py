"""Plotly's own partial bundle ``basic``, version 4.1.1: lines, points and bars in a quarter of the whole library.

The Python package brings the whole one alone. It is by Plotly, Inc., under the MIT licence beside it.
"""

from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from dcao_lab.files.whole import write_whole

if TYPE_CHECKING:
    import plotly.graph_objects as go

BUNDLE = Path(__file__).with_name("plotly-basic.min.js")


@cache
def plotly_basic() -> str:
    """The script, which defines ``Plotly``."""
    return BUNDLE.read_text(encoding="utf-8")


def write_figure(figure: "go.Figure", title: str, path: Path) -> None:
    """Write a page with this figure alone, which works offline."""
    drawn = figure.to_html(include_plotlyjs=False, full_html=False)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><script>{plotly_basic()}</script>'
    write_whole(path, f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{drawn}</body></html>\n')
