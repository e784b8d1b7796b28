"""The final metric against what a run started from."""

import math
from collections.abc import Collection

from dcao_lab.report import formats
from dcao_lab.report.analysis.robustness import Sweep
from dcao_lab.report.figures.axes import metric_axis, ticks
from dcao_lab.report.figures.drawings import Axis, Panel, Series
from dcao_lab.report.figures.styles import Style
from dcao_lab.report.numbers import Numbers

MOST_TICKS = 9  # so many values have a number each


def sweep(
    numbers: Numbers, task: str, axis: str, arms: Collection[str], *, source: str = "variations", title: str = ""
) -> list[Panel]:
    """The final metric of some arms along one axis: medians, ranges and the runs; no panel where none was varied.

    Of trials of the tuning there are the runs alone: they vary other settings too.
    """
    found = [s for s in numbers.sweeps if (s.task, s.axis, s.source) == (task, axis, source) and s.arm in arms]
    if not found:
        return []
    info = numbers.view.infos[task]
    x, places = _varied(axis, source, found)
    draw = _trials if source == "trials" else _medians
    return [
        Panel(
            title=title,
            paper_title=info.title,
            x=x,
            y=metric_axis(info),
            series=[draw(one, numbers.styles[one.arm], places) for one in found],
            worst="bottom" if info.higher_is_better else "top",
        )
    ]


def _varied(axis: str, source: str, sweeps: list[Sweep]) -> tuple[Axis, dict[float, float]]:
    """The axis, and where on it each value is: side by side where one is 0, which has no place among powers of ten."""
    places = values = sorted({value for sweep in sweeps for value, _, _ in sweep.points})
    label, spelled = formats.axis_title(axis), [formats.axis_value(axis, value) for value in values]
    if values[0] <= 0.0:
        beside = {value: float(index) for index, value in enumerate(values)}
        return Axis(label=label, ticks=range(len(values)), tick_labels=spelled), beside
    if source == "variations" and len(values) > MOST_TICKS:
        values = ticks((values[0], values[-1]))
        spelled = [formats.axis_value(axis, value) for value in values]
    has_ticks = source == "variations"
    marked, names = (values, spelled) if has_ticks else ([], [])
    return Axis(label=label, scale="log", ticks=marked, tick_labels=names), {value: value for value in places}


def _medians(sweep: Sweep, style: Style, places: dict[float, float]) -> Series:
    values = [[math.nan] if median is None else [v for v in runs if v is not None] for _, median, runs in sweep.points]
    return Series(
        style=style,
        x=[places[value] for value, _, _ in sweep.points],
        y=[math.nan if median is None else median for _, median, _ in sweep.points],
        markers="all",
        spread="range",
        low=list(map(min, values)),
        high=list(map(max, values)),
        has_bars=True,
        behind=[_trials(sweep, style, places, label="a run")],
        lost=[places[value] for value, median, _ in sweep.points if median is None],
    )


def _trials(sweep: Sweep, style: Style, places: dict[float, float], *, label: str = "") -> Series:
    pairs = [(places[value], run) for value, _, runs in sweep.points for run in runs if run is not None]
    return Series(label=label, style=style, x=[x for x, _ in pairs], y=[y for _, y in pairs], shape="points")
