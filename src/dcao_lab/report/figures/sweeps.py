"""The final metric against what a run started from."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dcao_lab.report import formats
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.figures.base import Figure, metric_axis, rounded, to_json
from dcao_lab.report.figures.styles import Style, Styles
from dcao_lab.workloads import WorkloadInfo


def sweep(sweeps: Sequence[Sweep], info: WorkloadInfo, styles: Styles) -> Figure:
    """One axis of one task: a line through the medians, a point a run."""
    figure, places = go.Figure(), _places(sweeps)
    for one in sorted(sweeps, key=lambda one: styles[one.arm].is_highlighted):
        style = styles[one.arm]
        if one.source == "trials":
            _add_points(
                figure,
                one,
                style,
                places,
                size=7.0 if style.is_highlighted else 5.0,
                opacity=0.9 if style.is_highlighted else 0.5,
            )
        else:
            _add_points(figure, one, style, places, size=4.0, opacity=0.45)
            _add_medians(figure, one, style, places)
    figure.update_xaxes(title=formats.axis_title(sweeps[0].axis), **_scale(sweeps))
    figure.update_yaxes(title=formats.metric_title(info), **metric_axis(info.metric))
    return to_json(figure)


def _scale(sweeps: Sequence[Sweep]) -> dict[str, object]:
    """Powers of ten; values side by side where one of them is 0, which has no place among those."""
    one, values = sweeps[0], _values(sweeps)
    spelled = [formats.axis_value(one.axis, value) for value in values]
    if values[0] <= 0.0:
        return {"type": "linear", "tickvals": list(range(len(values))), "ticktext": spelled}
    if one.source == "trials" or len(values) > 9:
        return {"type": "log"}
    return {"type": "log", "tickvals": values, "ticktext": spelled}


def _values(sweeps: Sequence[Sweep]) -> list[float]:
    return sorted({value for one in sweeps for value, _, _ in one.points})


def _places(sweeps: Sequence[Sweep]) -> dict[float, float]:
    """Where on the axis each value is."""
    values = _values(sweeps)
    return {value: value if values[0] > 0.0 else index for index, value in enumerate(values)}


def _add_points(
    figure: go.Figure, one: Sweep, style: Style, places: dict[float, float], *, size: float, opacity: float
) -> None:
    pairs = [(value, run) for value, _, runs in one.points for run in runs if run is not None]
    figure.add_scatter(
        x=[places[value] for value, _ in pairs],
        y=rounded(run for _, run in pairs),
        mode="markers",
        name=style.title if one.source == "trials" else f"{style.title}, a run",
        meta={"arm": style.arm},
        marker=style.marker(size),
        opacity=opacity,
    )


def _add_medians(figure: go.Figure, one: Sweep, style: Style, places: dict[float, float]) -> None:
    figure.add_scatter(
        x=[places[value] for value, _, _ in one.points],
        y=rounded(median for _, median, _ in one.points),
        mode="lines+markers",
        name=style.title,
        meta={"arm": style.arm},
        line=style.line(2.5),
        marker=style.marker(8 if style.is_highlighted else 5),
    )
