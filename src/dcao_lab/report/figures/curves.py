"""Learning curves: over steps, gradient evaluations, seconds or epochs."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dcao_lab.report import formats
from dcao_lab.report.analysis.spread import spread, spread_shares
from dcao_lab.report.figures.base import Figure, log_axis, metric_axis, rounded, thinned, to_json, with_extras
from dcao_lab.report.figures.styles import Style, Styles
from dcao_lab.runs.runner import StoredRun
from dcao_lab.runs.training import EvaluationPoint
from dcao_lab.workloads import WorkloadInfo

MAX_CURVE_POINTS = 60
FEW_ARMS = 5  # so many are drawn with each seed; of more, medians and bands alone
CLOCKS: dict[str, tuple[str, Callable[[EvaluationPoint], float]]] = {
    "steps": ("step", lambda point: point.step),
    "gradient evaluations": ("gradient evaluations", lambda point: point.gradient_evaluations),
    "seconds": ("seconds of training", lambda point: point.seconds),
    "epochs": ("epoch", lambda point: point.epoch),
}

Read = Callable[[EvaluationPoint], float | None]
Runs = Mapping[str, tuple[StoredRun, ...]]


def train_loss(runs: Runs, styles: Styles, leading: Collection[str]) -> Figure:
    """Training loss of each arm."""
    figure = _curves(runs, styles, leading, lambda point: point.train_loss)
    drawn = [value for trace in figure.data for value in trace.y]
    figure.update_yaxes(title="training loss", **log_axis(drawn))
    return with_extras(_with_clocks(figure), leading)


def validation_metric(runs: Runs, styles: Styles, leading: Collection[str], info: WorkloadInfo) -> Figure:
    """Validation metric of each arm."""
    figure = _curves(runs, styles, leading, lambda point: point.metrics.get(f"validation_{info.metric}"))
    figure.update_yaxes(title=formats.metric_title(info, "validation"), **metric_axis(info.metric))
    return with_extras(_with_clocks(figure), leading)


def _curves(runs: Runs, styles: Styles, leading: Collection[str], read: Read) -> go.Figure:
    figure = go.Figure()
    for arm, own in runs.items():
        style = styles[arm]
        if len(runs) <= FEW_ARMS:
            for run in own if len(own) > 1 else ():
                _add_run(figure, run, style, read)
        elif arm in leading and len(own) > 1:
            _add_band(figure, own, style, read)
        _add_median(figure, own, style, read)
    return figure


def _add_run(figure: go.Figure, run: StoredRun, style: Style, read: Read) -> None:
    points = [point for point in thinned(run.points, MAX_CURVE_POINTS) if read(point) is not None]
    _add_line(
        figure,
        {name: [clock(point) for point in points] for name, (_, clock) in CLOCKS.items()},
        [read(point) for point in points],
        style,
        name=f"{style.title}, seed {run.config.seed}",
        line=style.line(1),
        opacity=0.3,
        hoverinfo="skip",
    )


def _add_median(figure: go.Figure, runs: tuple[StoredRun, ...], style: Style, read: Read) -> None:
    clocks, values = _over_seeds(runs, read)
    _add_line(figure, clocks, _quantile(values, 0.5), style, name=style.title, line=style.line(2.5))


def _add_band(figure: go.Figure, runs: tuple[StoredRun, ...], style: Style, read: Read) -> None:
    """Between the ends of the spread, as one closed line."""
    clocks, values = _over_seeds(runs, read)
    low, high = (_quantile(values, share) for share in spread_shares(len(runs)))
    kept = [i for i, pair in enumerate(zip(low, high, strict=True)) if None not in pair]
    _add_line(
        figure,
        {name: [xs[i] for i in kept] + [xs[i] for i in reversed(kept)] for name, xs in clocks.items()},
        [low[i] for i in kept] + [high[i] for i in reversed(kept)],
        style,
        name=f"{style.title}, {spread(len(runs))}",
        fill="toself",
        fillcolor=style.color,
        line={"width": 0, "color": style.color},
        opacity=0.15,
        hoverinfo="skip",
    )


def _over_seeds(runs: tuple[StoredRun, ...], read: Read) -> tuple[dict[str, list[float]], list[list[float | None]]]:
    """Clocks (medians over runs) and the runs' values, up to where the first run ends."""
    shortest = min((run.points for run in runs), key=len)
    indices = [
        i for i in thinned(range(len(shortest)), MAX_CURVE_POINTS) if any(read(r.points[i]) is not None for r in runs)
    ]
    clocks = {
        name: np.median([[clock(run.points[i]) for run in runs] for i in indices], axis=1).tolist() if indices else []
        for name, (_, clock) in CLOCKS.items()
    }
    return clocks, [[read(run.points[i]) for run in runs] for i in indices]


def _quantile(values: list[list[float | None]], share: float) -> list[float | None]:
    """By row; None where a run has no finite value any more."""
    return [float(np.quantile(row, share)) if all(map(_is_finite, row)) else None for row in values]


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _add_line(
    figure: go.Figure, clocks: dict[str, list[float]], values: list[float | None], style: Style, **trace: Any
) -> None:
    """A line over steps; what other clocks show waits in ``meta`` for the page's buttons."""
    figure.add_scatter(
        x=clocks["steps"],
        y=rounded(values),
        mode="lines",
        meta={"arm": style.arm, "clocks": {name: rounded(xs) for name, xs in clocks.items()}},
        **trace,
    )


def _with_clocks(figure: go.Figure) -> Figure:
    figure.update_xaxes(title=CLOCKS["steps"][0])
    return to_json(figure)
