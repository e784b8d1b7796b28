"""A curve as lines of characters: braille patterns, which have two by four dots a character."""

import numpy as np
from rich.text import Text

from dcao_lab.watching.live import Panel
from dcao_lab.watching.thinning import Numbers

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # Unicode's bits of a pattern, by row and column
BLANK = 0x2800
LABEL = 9
CURVE, EDGE, FAINT = "dodger_blue1", "dark_orange", "dim"


def chart_of(panel: Panel, *, width: int, rows: int) -> Text:
    """A panel in ``width`` columns: a line with its name and last value, then ``rows`` of curve with its axis."""
    title = Text(f"{'':{LABEL}} {panel.name} ")
    title.append("-" if panel.latest is None else f"{panel.latest:.3g}", style="bold")
    if panel.edge is not None:
        title.append(f", edge at {panel.edge:g}", style=EDGE)
    lines = [title, *_body(panel, width - LABEL - 2, rows)]
    return Text("\n", no_wrap=True).join(lines)


def _body(panel: Panel, columns: int, rows: int) -> list[Text]:
    cells = _cells(panel, columns, rows)
    edge_row = None
    if panel.edge is not None:
        edge_row = int(_rows_down(panel.axis.heights(np.array([panel.edge])), rows)[0])
    labels = {0: f"{panel.axis.high:.3g}", rows - 1: f"{panel.axis.low:.3g}"}
    lines = []
    for row in range(rows):
        line = Text(f"{labels.get(row, ''):>{LABEL}} │", style=FAINT)
        for cell in cells[row]:
            if cell:
                line.append(chr(BLANK + cell), style=f"not dim {CURVE}")
            else:
                line.append("─" if row == edge_row else " ", style=f"not dim {EDGE}")
        lines.append(line)
    return lines


def _cells(panel: Panel, columns: int, rows: int) -> list[list[int]]:
    """The pattern of each character: the curve, joined between points that no gap parts."""
    cells = [[0] * columns for _ in range(rows)]
    across, down = _across(panel.steps, 2 * columns), _rows_down(panel.axis.heights(panel.values), 4 * rows)
    has_place = np.isfinite(panel.axis.heights(panel.values))
    for point in np.flatnonzero(has_place):
        first = point - 1 if point and has_place[point - 1] else point
        length = 1 + int(max(abs(across[point] - across[first]), abs(down[point] - down[first])))
        for x, y in zip(
            np.linspace(across[first], across[point], length).round().astype(int),
            np.linspace(down[first], down[point], length).round().astype(int),
            strict=True,
        ):
            cells[y // 4][x // 2] |= DOTS[y % 4][x % 2]
    return cells


def _across(steps: Numbers, dots: int) -> Numbers:
    if not steps.size:
        return steps
    span = float(steps.max() - steps.min()) or 1.0
    across: Numbers = (dots - 1) * (steps - steps.min()) / span
    return across


def _rows_down(heights: Numbers, rows: int) -> Numbers:
    """Rows from the top; what is out of view is at the end of the axis."""
    down: Numbers = ((rows - 1) * (1.0 - np.clip(np.nan_to_num(heights), 0.0, 1.0))).round()
    return down
