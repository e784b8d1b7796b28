"""The stability number and the raw product of learning rate and curvature, against the edge at 2."""

from collections.abc import Callable, Mapping

import plotly.graph_objects as go

import dcao
from dcao_lab.report.analysis.stability import (
    EDGE,
    largest_ritz_value,
    preconditioned_number,
    running_median,
    stability_number,
)
from dcao_lab.report.figures.base import EDGE_COLOR, Figure, add_edge, log_axis, rounded, thinned, to_json
from dcao_lab.report.figures.styles import Style, Styles
from dcao_lab.runs.runner import StoredRun

FEW_ARMS = 6  # so many are drawn with a dot a probe

Read = Callable[[dcao.StepRecord], float | None]


def stability(runs: Mapping[str, StoredRun], styles: Styles) -> Figure:
    """S over steps, one run an arm: dots are probes, lines their running median."""
    figure = go.Figure()
    drawn = []
    for arm, run in runs.items():
        steps, values = trace_of(run, stability_number)
        drawn += values
        if len(runs) <= FEW_ARMS:
            _add_probes(figure, steps, values, styles[arm])
        _add_line(figure, steps, running_median(values), styles[arm])
    return _against_the_edge(figure, "stability number s", drawn)


def raw_stability(runs: Mapping[str, StoredRun], styles: Styles) -> Figure:
    """Learning rate times the largest Ritz value of the loss Hessian, over steps."""
    return _lines_against_the_edge(runs, styles, raw_product, "lr times largest Ritz value")


def preconditioned(runs: Mapping[str, StoredRun], styles: Styles) -> Figure:
    """S by the largest eigenvalue of the preconditioned Hessian, over steps."""
    return _lines_against_the_edge(runs, styles, preconditioned_number, "s, preconditioned")


def sharpness(runs: Mapping[str, StoredRun], styles: Styles) -> Figure:
    """The largest Ritz value of the loss Hessian over steps."""
    figure = go.Figure()
    drawn = []
    for arm, run in runs.items():
        drawn += _add_trace(figure, run, largest_ritz_value, styles[arm])
        drawn += _add_own_edge(figure, run, styles[arm])
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="largest Ritz value", **log_axis(drawn))
    return to_json(figure)


def raw_product(record: dcao.StepRecord) -> float | None:
    """Learning rate before the decision times the largest Ritz value."""
    value = largest_ritz_value(record)
    return None if value is None else record.before.lr * value


def own_edge(run: StoredRun) -> tuple[list[int], list[float]]:
    """Where the largest Ritz value meets the edge of plain SGD, over the steps; of other optimizers it has none."""
    if run.config.optimizer != "sgd":
        return [], []
    before = [(record.step, record.before) for record in thinned(run.probes)]
    return [step for step, _ in before], [EDGE * (1.0 + at.momentum) / at.lr for _, at in before]


def trace_of(run: StoredRun, read: Read) -> tuple[list[int], list[float]]:
    """Steps and values of the probes that have one above zero: others have no place on a logarithmic scale."""
    pairs = [(record.step, read(record)) for record in run.probes]
    kept = thinned((step, value) for step, value in pairs if value is not None and 0.0 < value < float("inf"))
    return [step for step, _ in kept], [value for _, value in kept]


def _lines_against_the_edge(runs: Mapping[str, StoredRun], styles: Styles, read: Read, title: str) -> Figure:
    figure = go.Figure()
    drawn = []
    for arm, run in runs.items():
        drawn += _add_trace(figure, run, read, styles[arm])
    return _against_the_edge(figure, title, drawn)


def _against_the_edge(figure: go.Figure, title: str, drawn: list[float]) -> Figure:
    add_edge(figure)
    figure.update_xaxes(title="step")
    figure.update_yaxes(title=title, **log_axis(drawn, keep=(EDGE,)))
    drawing = to_json(figure)
    drawing["layout"]["margin"]["t"] = 22  # for the name of the edge
    return drawing


def _add_probes(figure: go.Figure, steps: list[int], values: list[float], style: Style) -> None:
    figure.add_scatter(
        x=steps,
        y=rounded(values),
        mode="markers",
        name=f"{style.title}, a probe",
        meta={"arm": style.arm},
        marker={"color": style.color, "size": 3},
        opacity=0.25,
        hoverinfo="skip",
    )


def _add_own_edge(figure: go.Figure, run: StoredRun, style: Style) -> list[float]:
    steps, values = own_edge(run)
    if values:
        figure.add_scatter(
            x=steps,
            y=rounded(values),
            mode="lines",
            name=f"edge of {style.title}",
            meta={"arm": style.arm},
            line={"color": EDGE_COLOR, "width": 2, "dash": "dot"},
        )
    return values


def _add_trace(figure: go.Figure, run: StoredRun, read: Read, style: Style) -> list[float]:
    steps, values = trace_of(run, read)
    _add_line(figure, steps, values, style, mode="lines+markers", marker={"size": 4})
    return values


def _add_line(figure: go.Figure, steps: list[int], values: list[float], style: Style, **changes: object) -> None:
    figure.add_scatter(
        x=steps,
        y=rounded(values),
        name=style.title,
        meta={"arm": style.arm},
        line=style.line(2),
        **{"mode": "lines", **changes},
    )
