"""What every figure shares: a layout without colours of its own, and fewer points than there are."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

EDGE_COLOR = "#d03545"
REACH = 2.0  # powers of ten
MOST_DECADES = 8  # so many have a digit each
MAX_POINTS = 200  # a trace of thousands of probes looks the same and makes the page heavy

Figure = dict[str, Any]


def to_json(figure: go.Figure) -> Figure:
    """The figure as the page takes it."""
    figure.update_layout(
        template="none",
        showlegend=False,
        margin={"l": 56, "r": 12, "t": 8, "b": 44},
        dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        xaxis_exponentformat="e",
        yaxis_exponentformat="e",
    )
    return figure.to_plotly_json()


def with_extras(figure: Figure, leading: Collection[str]) -> Figure:
    """The figure with the arms that are not ``leading`` kept back until the page's button asks for all."""
    for trace in figure["data"]:
        if trace["meta"]["arm"] not in leading:
            trace["meta"]["is_extra"] = True
    return figure


def thinned(items: Iterable[Any], most: int = MAX_POINTS) -> list[Any]:
    """At most ``most`` of the items, evenly spread, first and last kept.

    Example:
        >>> thinned(range(9), 3)
        [0, 4, 8]
    """
    items = list(items)
    if len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Four digits: more cannot be seen, and would double the page. What is not finite has no point.

    Example:
        >>> rounded([1.23456, float("inf"), None])
        [1.235, None, None]
    """
    return [None if v is None or not math.isfinite(v) else float(f"{v:.4g}") for v in values]


def add_edge(figure: go.Figure) -> None:
    """The edge of stability at 2; its name is above the figure, where it hides no trace."""
    figure.add_shape(type="line", xref="paper", x0=0, x1=1, y0=2, y1=2, line={"color": EDGE_COLOR, "width": 2})
    figure.add_annotation(
        text="edge at 2",
        xref="paper",
        x=0.99,
        xanchor="right",
        yref="paper",
        y=1,
        yanchor="bottom",
        showarrow=False,
        font={"color": EDGE_COLOR},
    )


def log_range(values: Iterable[float | None], *, keep: Sequence[float] = ()) -> list[float] | None:
    """A range of a logarithmic axis, in powers of ten: at most two beyond 90 % of the values, whatever a few do."""
    positive = [v for v in values if v is not None and 0.0 < v < math.inf]
    if not positive:
        return None
    usual_low, usual_high = np.quantile(np.log10(positive), [0.05, 0.95])
    low, high = max(math.log10(min(positive)), usual_low - REACH), min(math.log10(max(positive)), usual_high + REACH)
    low, high = min([low, *np.log10(keep)]), max([high, *np.log10(keep)])
    margin = max(0.05 * (high - low), 0.1)
    return [float(low - margin), float(high + margin)]


def log_axis(values: Iterable[float | None], *, keep: Sequence[float] = ()) -> dict[str, Any]:
    """A logarithmic axis over :func:`log_range`, with digits at 1, 2 and 5 where it is short, few where long."""
    limits = log_range(values, keep=keep)
    decades = 0.0 if limits is None else limits[1] - limits[0]
    return {"type": "log", "range": limits, "dtick": "D2" if decades < 3 else 1 + int(decades) // MOST_DECADES}


def metric_axis(metric: str) -> dict[str, Any]:
    """How an axis of the metric is drawn: a share from 0 to 1, or a logarithmic scale."""
    if metric == "accuracy":
        return {"tickformat": ".0%"}
    return {"type": "log", "dtick": "D2"}  # 1, 2 and 5: more digits than these lie on top of each other
