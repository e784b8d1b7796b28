"""The report's figures, as plotly's JSON. Colours of text and grid belong to the page, light or dark."""

import math
from collections.abc import Iterable
from statistics import median
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy.ndimage import median_filter

import dcao
from dcao_lab.baselines import Baseline
from dcao_lab.report import formats
from dcao_lab.report.summary import Arm, WorkloadSummary
from dcao_lab.runner import StoredRun

FAMILY_COLORS = {
    "adamw": "#2f7de1",
    "sgd": "#d9631e",
}  # each at least 3:1 on the page's white and on its black
OTHER_COLOR = "#7a7f87"
EDGE_COLOR = "#d03545"
LEARNING_RATE_COLORS = ("#8a63d2", "#16977a", "#d1498f", "#b07d13")
MAX_POINTS = 250  # a trace of thousands of probes looks the same and makes the page heavy
SMOOTHING = 9  # probes in the running median of s
EDGE = 2.0

Figure = dict[str, Any]


def learning_rate_color(summary: WorkloadSummary, lr: float) -> str:
    """The colour that stands for an initial learning rate."""
    return LEARNING_RATE_COLORS[summary.learning_rates.index(lr) % len(LEARNING_RATE_COLORS)]


def family_color(baseline: Baseline) -> str:
    """The colour that stands for the bare optimizer underneath."""
    return FAMILY_COLORS.get(baseline.family, OTHER_COLOR)


def final_metric(summary: WorkloadSummary) -> Figure:
    """Final metric against initial learning rate: a line through the medians, a point a seed."""
    figure = go.Figure()
    for baseline in summary.baselines:
        arms = [
            (lr, summary.arms[baseline.name, lr])
            for lr in summary.learning_rates
            if (baseline.name, lr) in summary.arms
        ]
        figure.add_scatter(
            x=[lr for lr, _ in arms],
            y=[arm.median for _, arm in arms],
            mode="lines+markers",
            name=baseline.title,
            line=_line(baseline, 2.5),
            marker=_marker(baseline, 9),
        )
        figure.add_scatter(
            x=[lr for lr, arm in arms for _ in arm.values],
            y=[value for _, arm in arms for value in arm.values],
            mode="markers",
            name=f"{baseline.title}, a seed",
            marker=_marker(baseline, 5),
            opacity=0.5,
        )
    is_share = summary.info.metric == "accuracy"
    figure.update_xaxes(
        title="initial learning rate",
        type="log",
        tickvals=list(summary.learning_rates),
        ticktext=[formats.learning_rate(lr) for lr in summary.learning_rates],
    )
    figure.update_yaxes(
        tickformat=".0%" if is_share else None,
        type="linear" if is_share else "log",
        dtick=None if is_share else "D2",  # 1, 2 and 5: more digits than these lie on top of each other
    )
    return _to_json(figure)


def losses(summary: WorkloadSummary, lr: float) -> Figure:
    """Training loss over steps: thick the median over seeds, thin each seed."""
    figure = go.Figure()
    for baseline in summary.baselines:
        arm = summary.arms.get((baseline.name, lr))
        if arm is None:
            continue
        for run in arm.runs:
            steps, values = _training_losses(run)
            figure.add_scatter(
                x=steps,
                y=values,
                mode="lines",
                name=f"{baseline.title}, seed {run.config.seed}",
                line=_line(baseline, 1),
                opacity=0.3,
                hoverinfo="skip",
            )
        steps, values = _median_loss(arm)
        figure.add_scatter(x=steps, y=values, mode="lines", name=baseline.title, line=_line(baseline, 2.5))
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="training loss", type="log")
    return _to_json(figure)


def stability(summary: WorkloadSummary, lr: float) -> Figure:
    """The stability number over steps against the edge at 2: dots are probes, lines their running median."""
    figure = go.Figure()
    for baseline, run in _probed(summary, lr):
        steps, values = stability_trace(run)
        figure.add_scatter(
            x=steps,
            y=_rounded(values),
            mode="markers",
            name=f"{baseline.title}, a probe",
            marker={"color": family_color(baseline), "size": 3},
            opacity=0.25,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=steps, y=_rounded(_smoothed(values)), mode="lines", name=baseline.title, line=_line(baseline, 2)
        )
    _add_edge(figure)
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="stability number s", type="log", range=[-4, 2])
    return _to_json(figure)


def learning_rates(summary: WorkloadSummary, baseline: Baseline) -> Figure:
    """The learning rate over steps, a colour an initial learning rate."""
    figure = go.Figure()
    for lr in summary.learning_rates:
        for run in _first_with_probes(summary, baseline, lr):
            line = {"color": learning_rate_color(summary, lr), "width": 2, "shape": "hv"}
            _add_hyperparameter(figure, run, "lr", f"from {formats.learning_rate(lr)}", line)
    figure.update_xaxes(title="step", range=[0, summary.num_steps])
    figure.update_yaxes(title=HYPERPARAMETERS["lr"], type="log")
    return _to_json(figure)


def hyperparameter(summary: WorkloadSummary, name: str) -> Figure:
    """A hyperparameter that every optimizer has, over steps, of all that DCAO steers: a colour a bare optimizer."""
    figure = go.Figure()
    for lr in summary.learning_rates:
        for baseline, run in _probed(summary, lr):
            if baseline.is_wrapped:
                title = f"{baseline.title} from {formats.learning_rate(lr)}"
                _add_hyperparameter(figure, run, name, title, {**_line(baseline, 2), "shape": "hv"})
    figure.update_xaxes(title="step", range=[0, summary.num_steps])
    figure.update_yaxes(title=HYPERPARAMETERS[name], rangemode="tozero")
    return _to_json(figure)


def _add_hyperparameter(figure: go.Figure, run: StoredRun, name: str, title: str, line: dict[str, Any]) -> None:
    records = _thinned(run.probes)
    values = _rounded([getattr(record.after, name) for record in records])
    figure.add_scatter(x=[record.step for record in records], y=values, mode="lines", name=title, line=line)


HYPERPARAMETERS = {"lr": "learning rate", "momentum": "momentum", "weight_decay": "weight decay"}


def ritz_values(summary: WorkloadSummary, baseline: Baseline) -> Figure:
    """The largest Ritz values of the loss Hessian over steps, a colour an initial learning rate."""
    figure = go.Figure()
    for lr in summary.learning_rates:
        for run in _first_with_probes(summary, baseline, lr):
            _add_ritz_values(figure, run, learning_rate_color(summary, lr))
    figure.update_xaxes(title="step", range=[-0.02 * summary.num_steps, 1.02 * summary.num_steps])
    figure.update_yaxes(title="Ritz values of the Hessian", type="log")
    return _to_json(figure)


def stability_trace(run: StoredRun) -> tuple[list[int], list[float]]:
    """Steps and s of the probes that have one above zero: others cannot be drawn on a logarithmic scale."""
    pairs = _thinned((record.step, record.estimate.s) for record in run.probes if has_positive_s(record))
    return [step for step, _ in pairs], [s for _, s in pairs]


def spectra(run: StoredRun) -> list[tuple[int, tuple[float, ...]]]:
    """Steps and Ritz values of the probes that measured the spectrum (a single value is no spectrum)."""
    measured = [(record.step, record.estimate.ritz_values) for record in run.probes if record.estimate is not None]
    return [(step, tuple(values)) for step, values in measured if values is not None and len(values) > 1]


def _add_edge(figure: go.Figure) -> None:
    figure.add_shape(type="line", xref="paper", x0=0, x1=1, y0=EDGE, y1=EDGE, line={"color": EDGE_COLOR, "width": 2})
    figure.add_annotation(
        text="edge at 2",
        xref="paper",
        x=0.01,
        xanchor="left",
        y=math.log10(EDGE),
        yanchor="bottom",
        showarrow=False,
        font={"color": EDGE_COLOR},
    )


def _add_ritz_values(figure: go.Figure, run: StoredRun, color: str) -> None:
    measured = spectra(run)
    num_values = max((len(values) for _, values in measured), default=0)
    for rank in range(num_values):
        points = [(step, values[rank]) for step, values in measured if len(values) > rank and values[rank] > 0]
        figure.add_scatter(
            x=[step for step, _ in points],
            y=_rounded([value for _, value in points]),
            mode="lines+markers",
            name=f"from {formats.learning_rate(run.config.lr)}, number {rank + 1}",
            line={"color": color, "width": 2.5 if rank == 0 else 1},
            marker={"size": 5 if rank == 0 else 3},
            opacity=1.0 if rank == 0 else 0.5,
        )


def _probed(summary: WorkloadSummary, lr: float) -> Iterable[tuple[Baseline, StoredRun]]:
    for baseline in summary.baselines:
        for run in _first_with_probes(summary, baseline, lr):
            yield baseline, run


def _first_with_probes(summary: WorkloadSummary, baseline: Baseline, lr: float) -> list[StoredRun]:
    """The run of the first seed that was probed, if any was."""
    arm = summary.arms.get((baseline.name, lr))
    return [run for run in arm.runs if run.probes][:1] if arm else []


def _training_losses(run: StoredRun) -> tuple[list[int], list[float | None]]:
    points = [point for point in run.points if point.train_loss is not None]
    return [point.step for point in points], _rounded([point.train_loss for point in points])


def _median_loss(arm: Arm) -> tuple[list[int], list[float | None]]:
    """The median over seeds, up to the step where the first of them diverged."""
    curves = [_training_losses(run) for run in arm.runs]
    steps = min((steps for steps, _ in curves), key=len)
    return steps, [_median_or_none([values[i] for _, values in curves]) for i in range(len(steps))]


def _median_or_none(values: list[float | None]) -> float | None:
    return None if any(value is None for value in values) else median(values)


def _smoothed(values: list[float]) -> list[float]:
    """The running median; a spectrum of outliers either side of a slow trace is what it is for."""
    return median_filter(np.array(values), size=SMOOTHING, mode="nearest").tolist() if values else []


def _thinned(items: "Iterable[Any]") -> list[Any]:
    """At most ``MAX_POINTS`` of the items, evenly spread, first and last kept."""
    items = list(items)
    if len(items) <= MAX_POINTS:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, MAX_POINTS).round().astype(int)]


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    """Four digits: more cannot be seen, and would double the page."""
    return [None if value is None else float(f"{value:.4g}") for value in values]


def has_positive_s(record: dcao.StepRecord) -> bool:
    """Whether a probe's s can be drawn on a logarithmic scale; a record of the guard has no estimate at all."""
    s = None if record.estimate is None else record.estimate.s
    return s is not None and 0.0 < s < float("inf")


def _line(baseline: Baseline, width: float) -> dict[str, Any]:
    return {
        "color": family_color(baseline),
        "width": width,
        "dash": "solid" if baseline.is_wrapped else "4px,4px",
    }


def _marker(baseline: Baseline, size: float) -> dict[str, Any]:
    symbol = "circle" if baseline.is_wrapped else "circle-open"
    return {
        "color": family_color(baseline),
        "size": size,
        "symbol": symbol,
        "line": {"width": 2, "color": family_color(baseline)},
    }


def _to_json(figure: go.Figure) -> Figure:
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
