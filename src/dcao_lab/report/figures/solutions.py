"""Curvature of the trained networks: against how they generalise, and as a density."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dcao_lab.report import formats
from dcao_lab.report.analysis.solutions import Solution, points, smoothed_density
from dcao_lab.report.analysis.window import Extent, Point, Window, window
from dcao_lab.report.figures.base import Figure, rounded, to_json
from dcao_lab.report.figures.styles import Style, Styles, grey_first
from dcao_lab.workloads import WorkloadInfo

SMALLEST_SHARE = 1e-6  # of the eigenvalues, where the drawing of a density begins
NUM_GRID = 160
MEASURE_TITLES = {
    "sharpness": "sharpness of the solution",
    "preconditioned_sharpness": "preconditioned sharpness",
    "trace": "trace of the Hessian",
}
OUTCOME_TITLES = {"generalisation_gap": "test loss - training loss"}


def scatter(found: Sequence[Solution], measure: str, outcome: str, info: WorkloadInfo, styles: Styles) -> Figure:
    """One point a trained network; a triangle at the edge for one that is out of view."""
    figure = go.Figure()
    view = view_of(found, measure, outcome, info)
    for arm in grey_first(dict.fromkeys(solution.arm for solution in found), styles):
        own = points((s for s in found if s.arm == arm), measure, outcome)
        _add_points(figure, own, styles[arm])
        if view is not None:
            _add_marks(figure, view.outside(own), view, styles[arm])
    is_accuracy = outcome == "test_metric" and info.metric == "accuracy"
    figure.update_xaxes(title=MEASURE_TITLES[measure], **(_axis(view.x) if view else {}))
    figure.update_yaxes(
        title=OUTCOME_TITLES.get(outcome, formats.metric_title(info)),
        **(_axis(view.y) if view else {}),
        **({"tickformat": ".0%"} if is_accuracy else {}),
    )
    return to_json(figure)


def view_of(found: Sequence[Solution], measure: str, outcome: str, info: WorkloadInfo) -> Window | None:
    """What is in view of all the networks; None where there are none."""
    everything = points(found, measure, outcome)
    is_share = outcome == "test_metric" and info.metric == "accuracy"
    return window(everything, y_is_share=is_share) if everything else None


def _add_points(figure: go.Figure, own: list[Point], style: Style) -> None:
    figure.add_scatter(
        x=rounded(x for x, _ in own),
        y=rounded(y for _, y in own),
        mode="markers",
        name=style.title,
        meta={"arm": style.arm},
        marker=style.marker(8 if style.is_highlighted else 6),
    )


def _add_marks(figure: go.Figure, outside: list[Point], view: Window, style: Style) -> None:
    """Marks are no data: the page leaves them out of what it writes, and shows the true values over them."""
    if outside:
        edge = [view.edge(point) for point in outside]
        figure.add_scatter(
            x=[x for x, _ in edge],
            y=[y for _, y in edge],
            mode="markers",
            name=style.title,
            text=[f"out of view: ({x:.3g}, {y:.3g})" for x, y in outside],
            hoverinfo="name+text",
            cliponaxis=False,
            meta={"arm": style.arm, "is_mark": True},
            marker={"color": style.color, "size": 11, "symbol": [f"triangle-{view.direction(p)}" for p in outside]},
        )


def _axis(extent: Extent) -> dict[str, Any]:
    ends = [extent.low, extent.high]
    if not extent.is_log:
        return {"range": ends}
    decades = math.log10(extent.high / extent.low)
    return {
        "type": "log",
        "range": [math.log10(end) for end in ends],
        "tickangle": 0,
        "dtick": "D2" if decades < 2 else 1 + decades // 6,
    }


def densities(found: Sequence[Solution], styles: Styles) -> Figure:
    """The spectral density of one trained network an arm, each quadrature node as a narrow bell."""
    figure = go.Figure()
    firsts = {s.arm: s for s in reversed(found) if s.density is not None}
    for arm in grey_first(reversed(firsts), styles):
        grid, values = _smoothed(firsts[arm].density)
        figure.add_scatter(
            x=rounded(grid),
            y=rounded(values),
            mode="lines",
            name=styles[arm].title,
            meta={"arm": arm},
            line=styles[arm].line(2),
        )
    figure.update_xaxes(title="eigenvalue of the loss Hessian")
    figure.update_yaxes(title="density", type="log")
    return to_json(figure)


def _smoothed(density: dict[str, list[float]]) -> tuple[list[float], list[float]]:
    """Bells of a hundredth of the range wide: sharper than that, quadrature nodes are not eigenvalues."""
    nodes, weights = np.array(density["nodes"]), np.array(density["weights"])
    span = float(nodes.max() - nodes.min()) or 1.0
    width = span / 100.0
    grid = np.linspace(nodes.min() - 3 * width, nodes.max() + 3 * width, NUM_GRID)
    return grid.tolist(), np.maximum(smoothed_density(nodes, weights, grid, width), SMALLEST_SHARE).tolist()
