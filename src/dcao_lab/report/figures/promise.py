"""The promise as a picture: where each initial learning rate ends, of DCAO and of the optimizer alone."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from dcao_lab.report import formats
from dcao_lab.report.analysis.promise import Pair
from dcao_lab.report.analysis.view import ranking
from dcao_lab.report.figures.axes import metric_axis, ticks
from dcao_lab.report.figures.drawings import Axis, Label, Level, Mark, Panel, Series
from dcao_lab.report.figures.sweeps import sweep
from dcao_lab.report.numbers import Numbers
from dcao_lab.workloads import WorkloadInfo

HEADROOM, FOOTROOM = 0.24, 0.07  # shares of an axis, for the words above the best line and for marks
STEEP = 0.15  # of the height of a panel: a step beside which a name stands clear of the line
NEAR = 0.2  # of the height of a panel: the words of lines that are so near stand beside each other
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def final_metrics(numbers: Numbers, pair: Pair) -> list[Panel]:
    """The final metric of both arms of a pair against the initial lr, better upwards; no panel without runs."""
    found = sweep(numbers, pair.task, "lr", {pair.arm, pair.other})
    info = numbers.view.infos.get(pair.task)
    return [_told(numbers, pair, info, panel) for panel in found] if info else []


def _told(numbers: Numbers, pair: Pair, info: WorkloadInfo, panel: Panel) -> Panel:
    """The panel with its lines named, and the best of the sweep as a level line."""
    y = _axis(numbers, pair.task, info, panel.series)
    series = [_with_marks(one, y) for one in panel.series]
    return replace(
        panel,
        title=f"{info.title}, {numbers.title(pair.other)}",
        x=replace(panel.x, label="initial lr", ticks=panel.x.ticks[::2], tick_labels=panel.x.tick_labels[::2]),
        y=y,
        series=series,
        levels=[] if pair.best is None else [Level(y=pair.best)],
        labels=[*_ends(numbers, pair, info, y, series), *_bare_labels(numbers, pair, y, series)],
    )


def _axis(numbers: Numbers, task: str, info: WorkloadInfo, series: Sequence[Series]) -> Axis:
    """From what an untrained network has to the best median, with room for words; the better end is above."""
    axis = metric_axis(info)
    if axis.is_share:
        spelled = [f"{100 * share:.0f}{formats.PERCENT}" for share in SHARES]
        limits = (-FOOTROOM, 1.0 + HEADROOM)
        return replace(axis, limits=limits, ticks=SHARES, tick_labels=spelled)
    rank = ranking(info)
    medians = [value for one in series for value in one.y if 0.0 < value < math.inf]
    worst = min(_untrained(numbers, task, info) or medians, key=rank, default=1.0)
    best = max([worst, *medians], key=rank)
    ratio = best / worst if best != worst else 2.0 if info.higher_is_better else 0.5
    limits = (worst / ratio**FOOTROOM, best * ratio**HEADROOM)
    values = ticks(limits)
    return replace(axis, limits=limits, ticks=values, tick_labels=[f"{value:g}" for value in values])


def _untrained(numbers: Numbers, task: str, info: WorkloadInfo) -> list[float]:
    """The metric of the networks before training."""
    found = [run.points[0].metrics.get(f"test_{info.metric}") for run in numbers.view.runs(task)]
    return [value for value in found if value is not None and 0.0 < value < math.inf]


def _with_marks(series: Series, y: Axis) -> Series:
    """With a triangle below for each median that is worse than the axis goes, or that diverged."""
    beyond = [(x, value) for x, value in zip(series.x, series.y, strict=True) if not _height(y, value) >= 0.0]
    marks = [Mark(at=(x, _foot(y)), direction="down", point=(x, value)) for x, value in beyond]
    return replace(series, marks=marks)


def _foot(y: Axis) -> float:
    """Where triangles stand: just above the axis below."""
    assert y.limits is not None, "every panel of these has them"
    bottom, top = y.limits
    return bottom * (top / bottom) ** FOOTROOM if y.scale == "log" else bottom + FOOTROOM * (top - bottom)


def _ends(numbers: Numbers, pair: Pair, info: WorkloadInfo, y: Axis, series: Sequence[Series]) -> list[Label]:
    """What DCAO ends with, at the left, and the best of the sweep, at the right: above the higher line of the two."""
    if pair.is_open:
        return []
    left, right = (end(x for one in series for x in one.x) for end in (min, max))
    color = numbers.styles[pair.arm].color
    own = Label(text=f"<b>DCAO: {_spelled(info, pair)}</b>", x=left, y=_first(pair, series), side="above", color=color)
    best = f"best of {pair.num_swept}: {formats.metric(info, pair.best)}"
    level = Label(text=best, x=right, y=math.nan if pair.best is None else pair.best, side="above", is_at_end=True)
    return _side_by_side(y, [label for label in (own, level) if math.isfinite(label.y)])


def _first(pair: Pair, series: Sequence[Series]) -> float:
    """The first height of DCAO's line; nan where all of it diverged."""
    heights = [value for one in series if one.style.arm == pair.arm for value in one.y if math.isfinite(value)]
    return heights[0] if heights else math.nan


def _side_by_side(y: Axis, labels: Sequence[Label]) -> list[Label]:
    """The labels at the height of the uppermost, but for one that is far below it."""
    top = max((label.y for label in labels), key=lambda value: _height(y, value), default=math.nan)
    is_near = [_height(y, top) - _height(y, label.y) < NEAR for label in labels]
    return [replace(label, y=top) if near else label for label, near in zip(labels, is_near, strict=True)]


def _spelled(info: WorkloadInfo, pair: Pair) -> str:
    """The median of DCAO, from all starts alike, or from the worst to the best of them."""
    worst, best = (formats.metric(info, value) for value in (pair.worst, pair.best_start))
    return worst if worst == best else formats.span(worst, best)


def _bare_labels(numbers: Numbers, pair: Pair, y: Axis, series: Sequence[Series]) -> list[Label]:
    """The bare optimizer's name beside the steepest part of its way up, and what its triangles below mean."""
    line = next((one for one in series if one.style.arm == pair.other), None)
    if line is None:
        return []
    places = [
        (numbers.title(pair.other), _steepest(y, line)),
        ("diverged", _first_diverged(line)),
    ]
    color = numbers.styles[pair.other].color
    return [replace(place, text=text, color=color) for text, place in places if place is not None]


def _first_diverged(line: Series) -> Label | None:
    """A label without words above the first triangle of a median that diverged."""
    lost = [mark for mark in line.marks if math.isnan(mark.point[1])]
    if not lost:
        return None
    x, y = lost[0].at
    return Label(text="", x=x, y=y, side="above", is_at_end=x > line.x[0])


def _steepest(y: Axis, line: Series) -> Label | None:
    """A label without words beside the steepest step, outside of the hill: on the way up, or else on the way down."""
    heights = [_height(y, value) for value in line.y]
    steps = [(after - before, place) for place, (before, after) in enumerate(pairwise(heights))]
    ways_up = [(step, place) for step, place in steps[1:] if step >= STEEP]
    ways_down = [(-step, place) for step, place in steps[:-1] if step <= -STEEP]
    if not (ways_up or ways_down):
        return None
    _, place = max(ways_up or ways_down)
    (x, middle), (later, end) = ((line.x[at], line.y[at]) for at in (place, place + 1))
    at = (x * later) ** 0.5, (middle * end) ** 0.5 if y.scale == "log" else (middle + end) / 2
    return Label(text="", x=at[0], y=at[1], side="left" if ways_up else "right")


def _height(y: Axis, value: float) -> float:
    """How far up the axis a value is, as a share; nan where it is not on it."""
    assert y.limits is not None, "every panel of these has them"
    bottom, top = y.limits
    if y.scale == "log":
        return math.log(value / bottom) / math.log(top / bottom) if value > 0.0 else math.nan
    return (value - bottom) / (top - bottom)
