"""What trains over time: learning rate, momentum and weight decay."""

from collections.abc import Mapping

import plotly.graph_objects as go

from dcao_lab.report.figures.base import Figure, rounded, thinned, to_json
from dcao_lab.report.figures.styles import Styles
from dcao_lab.runs.runner import StoredRun

TITLES = {"lr": "learning rate", "momentum": "momentum", "weight_decay": "weight decay"}


def hyperparameter(runs: Mapping[str, StoredRun], name: str, styles: Styles) -> Figure:
    """One hyperparameter over steps, one run an arm."""
    figure = go.Figure()
    for arm, run in runs.items():
        steps, values = _trace(run, name)
        if any(value is not None for value in values):
            figure.add_scatter(
                x=steps,
                y=rounded(values),
                mode="lines",
                name=styles[arm].title,
                meta={"arm": arm},
                line=styles[arm].line(2, shape="hv"),
            )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title=TITLES[name], **({"type": "log"} if name == "lr" else {"rangemode": "tozero"}))
    return to_json(figure)


def _trace(run: StoredRun, name: str) -> tuple[list[int], list[float | None]]:
    """From the probes' records; the learning rate of a run without them from its evaluations."""
    if run.probes:
        records = thinned(run.probes)
        return [record.step for record in records], [getattr(record.after, name) for record in records]
    points = thinned(run.points) if name == "lr" else []
    return [point.step for point in points], [point.lr for point in points]
