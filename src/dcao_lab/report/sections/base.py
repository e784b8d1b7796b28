"""What a section is made of."""

from collections.abc import Sequence
from typing import Any

from dcao_lab.report.figures.base import Figure

Context = dict[str, Any]


def section(
    key: str,
    heading: str,
    caption: str,
    *,
    figures: Sequence[Context] = (),
    tables: Sequence[Context | None] = (),
    clocks: Sequence[str] = (),
    columns: int = 4,
    is_grid: bool = False,
) -> Context:
    """A section as the page takes it; figures without a point and tables without a row are left out.

    Of the figures at most ``columns`` stand beside each other; fewer where the page is narrow. A grid keeps its columns
    on a phone, where it scrolls to the side: they mean something.
    """
    return {
        "key": key,
        "heading": heading,
        "caption": caption,
        "figures": [panel for panel in figures if _has_points(panel["figure"])],
        "tables": [table for table in tables if table is not None and table["rows"]],
        "clocks": list(clocks),
        "columns": columns,
        "is_grid": is_grid and columns > 1,
    }


def panel(key: str, title: str, figure: Figure) -> Context:
    """A figure with its title; the key becomes an id of the page, so it holds no name that a person gave."""
    return {"id": key, "title": title, "figure": figure, "height": figure["layout"].get("height")}


def filled(sections: Sequence[Context]) -> list[Context]:
    """The sections that have something to show."""
    return [section for section in sections if section["figures"] or section["tables"]]


def _has_points(figure: Figure) -> bool:
    return any(
        trace.get("x") is not None and any(value is not None for value in trace.get("y", ()))
        for trace in figure["data"]
    )
