"""A figure of more rows than a page has room for, as several."""

from collections.abc import Iterator
from dataclasses import replace

from dcao_lab.report.figures.drawings import BarChart, Panel, Sheet
from dcao_lab.report.paper import bars, panels

HIGHEST = 8.0  # inches, beside the legend and the note


def pages(sheet: Sheet) -> Iterator[Sheet]:
    """The sheet in parts of so many whole rows as a page has room for, numbered from 1; itself where it has room.

    Charts of different bars stay together: their rows belong together, and differ in height.
    """
    columns, most_rows = _grid(sheet)
    a_page = columns * most_rows
    if len(sheet.drawings) <= a_page:
        yield sheet
        return
    for number, start in enumerate(range(0, len(sheet.drawings), a_page), start=1):
        part = sheet.drawings[start : start + a_page]
        yield replace(sheet, name=f"{sheet.name}_{number}", drawings=part, columns=columns)


def _grid(sheet: Sheet) -> tuple[int, int]:
    """How many stand beside each other, and at most how many rows below each other."""
    if all(isinstance(drawing, Panel) for drawing in sheet.drawings):
        return sheet.columns or panels.num_columns(len(sheet.drawings)), int(HIGHEST // panels.PANEL_HEIGHT)
    found = bars.layout([drawing for drawing in sheet.drawings if isinstance(drawing, BarChart)], sheet.columns)
    is_uniform = all(map(bars.are_alike, found.rows)) and bars.are_alike([row[0] for row in found.rows])
    return found.columns, max(1, int(HIGHEST // found.heights[0])) if is_uniform else len(found.rows)
