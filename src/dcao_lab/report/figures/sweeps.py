"""The final metric against what a run started from."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dcao_lab.report import formats
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.figures.base import Figure, metric_axis, rounded, to_json
from dcao_lab.report.figures.styles import Style, Styles
from dcao_lab.workloads import WorkloadInfo

LINEAR_AXES = ("momentum", "label_noise")


def sweep(sweeps: Sequence[Sweep], info: WorkloadInfo, styles: Styles) -> Figure:
    """One axis of one task: a line through the medians, a point a run."""
    figure = go.Figure()
    for one in sorted(sweeps, key=lambda one: styles[one.arm].is_highlighted):
        style = styles[one.arm]
        if one.source == "trials":
            _add_points(
                figure,
                one,
                style,
                size=7.0 if style.is_highlighted else 5.0,
                opacity=0.9 if style.is_highlighted else 0.5,
            )
        else:
            _add_points(figure, one, style, size=4.0, opacity=0.45)
            _add_medians(figure, one, style)
    values = sorted({value for one in sweeps for value, _, _ in one.points})
    figure.update_xaxes(title=formats.axis_title(sweeps[0].axis), **_scale(sweeps[0], values))
    figure.update_yaxes(title=formats.metric_title(info), **metric_axis(info.metric))
    return to_json(figure)


def _scale(one: Sweep, values: list[float]) -> dict[str, object]:
    is_log = one.axis not in LINEAR_AXES and min(values) > 0.0
    if one.source == "trials" or len(values) > 9:
        return {"type": "log" if is_log else "linear"}
    return {
        "type": "log" if is_log else "linear",
        "tickvals": values,
        "ticktext": [formats.axis_value(one.axis, value) for value in values],
    }


def _add_points(figure: go.Figure, one: Sweep, style: Style, *, size: float, opacity: float) -> None:
    pairs = [(value, run) for value, _, runs in one.points for run in runs if run is not None]
    figure.add_scatter(
        x=[value for value, _ in pairs],
        y=rounded(run for _, run in pairs),
        mode="markers",
        name=style.title if one.source == "trials" else f"{style.title}, a run",
        meta={"arm": style.arm},
        marker=style.marker(size),
        opacity=opacity,
    )


def _add_medians(figure: go.Figure, one: Sweep, style: Style) -> None:
    figure.add_scatter(
        x=[value for value, _, _ in one.points],
        y=rounded(median for _, median, _ in one.points),
        mode="lines+markers",
        name=style.title,
        meta={"arm": style.arm},
        line=style.line(2.5),
        marker=style.marker(8 if style.is_highlighted else 5),
    )
