"""What every figure shares: a layout without colours of its own, and fewer points than there are."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

EDGE_COLOR = "#d03545"
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


def add_edge(figure: go.Figure, *, is_log: bool = True) -> None:
    """The edge of stability at 2."""
    figure.add_shape(type="line", xref="paper", x0=0, x1=1, y0=2, y1=2, line={"color": EDGE_COLOR, "width": 2})
    figure.add_annotation(
        text="edge at 2",
        xref="paper",
        x=0.99,
        xanchor="right",
        y=math.log10(2) if is_log else 2,
        yanchor="bottom",
        showarrow=False,
        font={"color": EDGE_COLOR},
    )


def log_range(values: Iterable[float | None], *, keep: Sequence[float] = ()) -> list[float] | None:
    """A range of a logarithmic axis, in powers of ten, that no outlier stretches beyond what can be read."""
    positive = [v for v in values if v is not None and 0.0 < v < math.inf]
    if not positive:
        return None
    low, high = np.log10(np.quantile(positive, [0.01, 0.99]))
    low, high = min([low, *np.log10(keep)]), max([high, *np.log10(keep)])
    margin = max(0.05 * (high - low), 0.1)
    return [float(low - margin), float(high + margin)]


def log_axis(values: Iterable[float | None], *, keep: Sequence[float] = ()) -> dict[str, Any]:
    """A logarithmic axis over :func:`log_range`, with digits at 1, 2 and 5 where it is short."""
    limits = log_range(values, keep=keep)
    is_short = limits is not None and limits[1] - limits[0] < 3
    return {"type": "log", "range": limits, "dtick": "D2" if is_short else 1}


def metric_axis(metric: str) -> dict[str, Any]:
    """How an axis of the metric is drawn: a share from 0 to 1, or a logarithmic scale."""
    if metric == "accuracy":
        return {"tickformat": ".0%"}
    return {"type": "log", "dtick": "D2"}  # 1, 2 and 5: more digits than these lie on top of each other
