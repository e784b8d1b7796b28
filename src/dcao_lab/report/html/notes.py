"""What a panel of the page has beside its traces: lines across, shaded parts, and words."""

import math
from collections.abc import Iterator
from typing import Any

from dcao_lab.report.figures.drawings import Axis, Label, Panel
from dcao_lab.report.figures.styles import EDGE_COLOR, GREY

Json = dict[str, Any]

SIDES: dict[str, Json] = {
    "above": {"xanchor": "left", "yanchor": "bottom", "yshift": 3},
    "left": {"xanchor": "right", "yanchor": "middle", "xshift": -7},
    "right": {"xanchor": "left", "yanchor": "middle", "xshift": 7},
}
ACROSS: Json = {"type": "line", "xref": "paper", "x0": 0, "x1": 1}
ABOVE: Json = {"xref": "paper", "x": 0.99, "xanchor": "right", "yref": "paper", "y": 1, "yanchor": "bottom",
               "showarrow": False}  # fmt: skip
UPRIGHT: Json = {"yref": "paper", "y0": 0, "y1": 1}


def shapes(panel: Panel) -> Iterator[Json]:
    """Every other span shaded, and the lines: the edge of stability, and what else there is to compare with."""
    for span in panel.spans[1::2]:
        look = {"fillcolor": GREY.page, "opacity": 0.12, "line": {"width": 0}, "layer": "below"}
        yield {"type": "rect", **UPRIGHT, "x0": span.first, "x1": span.end, **look}
    for level in panel.levels:
        line = {"color": GREY.page, "width": 1.5}
        yield {**ACROSS, "y0": level.y, "y1": level.y, "layer": "below", "line": line}
    if panel.edge is not None:
        yield {**ACROSS, "y0": panel.edge, "y1": panel.edge, "line": {"color": EDGE_COLOR.page, "width": 2}}


def annotations(panel: Panel) -> Iterator[Json]:
    """The words; the names of lines are above the figure, where they hide no trace."""
    if panel.edge is not None:
        yield {"text": f"edge at {panel.edge:g}", **ABOVE, "font": {"color": EDGE_COLOR.page}}
    for level in panel.levels:
        if level.name:
            yield {"text": level.name, **ABOVE, "font": {"color": GREY.page}}
    for span in panel.spans:
        place = {"x": (span.first + span.end) / 2, "yref": "paper", "y": 1, "yanchor": "top"}
        yield {"text": span.name, **place, "showarrow": False}
    for label in panel.labels:
        yield _words(panel, label)


def _words(panel: Panel, label: Label) -> Json:
    font = {} if label.color is None else {"font": {"color": label.color.page}}
    at = {"x": _at(panel.x, label.x), "y": _at(panel.y, label.y), **SIDES[label.side]}
    end = {"xanchor": "right"} if label.is_at_end else {}
    return {"text": label.text, **at, **end, "showarrow": False, **font}


def _at(axis: Axis, value: float) -> float:
    """Where plotly puts words: on a logarithmic axis by the power of ten, unlike everything else."""
    return math.log10(value) if axis.scale == "log" else value
