"""The share of runs that have reached the target, over gradient evaluations."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dcao_lab.report.analysis.targets import Reaching
from dcao_lab.report.figures.base import Figure, rounded, to_json
from dcao_lab.report.figures.styles import Styles


def reaching(found: Sequence[Reaching], styles: Styles) -> Figure:
    """One staircase an arm: one minus the Kaplan-Meier estimate."""
    figure = go.Figure()
    end = max(time for one in found for time in one.times.times)
    for one in sorted(found, key=lambda one: styles[one.arm].is_highlighted):
        style = styles[one.arm]
        xs = [time for time, _ in one.curve] + [end]
        ys = [share for _, share in one.curve] + [one.curve[-1][1]]
        figure.add_scatter(
            x=rounded(xs),
            y=rounded(ys),
            mode="lines",
            name=style.title,
            meta={"arm": one.arm},
            line=style.line(2.5, shape="hv"),
        )
    figure.update_xaxes(title="gradient evaluations", rangemode="tozero")
    figure.update_yaxes(title="share that reached the target", tickformat=".0%", range=[-0.02, 1.04])
    return to_json(figure)
