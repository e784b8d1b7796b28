"""Curvature of the trained networks: against how they generalise, and as a density."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dcao_lab.report import formats
from dcao_lab.report.analysis.solutions import Solution, smoothed_density
from dcao_lab.report.figures.base import Figure, metric_axis, rounded, to_json
from dcao_lab.report.figures.styles import Styles, grey_first
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
    """One point a trained network."""
    figure = go.Figure()
    for arm in grey_first(dict.fromkeys(solution.arm for solution in found), styles):
        pairs = [(s.measures[measure], s.outcomes[outcome]) for s in found if s.arm == arm]
        pairs = [(x, y) for x, y in pairs if x is not None and y is not None and x > 0.0]
        figure.add_scatter(
            x=rounded(x for x, _ in pairs),
            y=rounded(y for _, y in pairs),
            mode="markers",
            name=styles[arm].title,
            meta={"arm": arm},
            marker=styles[arm].marker(8 if styles[arm].is_highlighted else 6),
        )
    figure.update_xaxes(title=MEASURE_TITLES[measure], type="log")
    figure.update_yaxes(
        title=OUTCOME_TITLES.get(outcome, formats.metric_title(info)),
        **(metric_axis(info.metric) if outcome == "test_metric" else {}),
    )
    return to_json(figure)


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
