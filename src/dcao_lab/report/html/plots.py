"""The ink of the page: drawings as plotly's JSON. Colours of text and grid belong to the page, light or dark."""

import html
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from dcao_lab.report.figures.axes import ticks, y_limits
from dcao_lab.report.figures.drawings import Axis, Bar, BarChart, Mark, Panel, Series
from dcao_lab.report.figures.styles import GREY, Style
from dcao_lab.report.html.notes import annotations, shapes

Json = dict[str, Any]

ROW_HEIGHT = 24
LABEL_WIDTH = 18  # letters
INSIDE = 0.02  # share of an axis that the triangle of a cut bar is from its end
LINE, THIN_LINE = 2.5, 1.0  # pixels
POINT, SMALL_POINT, FAINT_POINT = 8.0, 5.0, 3.5
MOST_DECADES = 8  # so many have a number each
FEW_DECADES = {"x": 2.0, "y": 3.0}  # fewer have numbers at 2 and 5 too, where powers of ten are too few


def figure(drawing: Panel | BarChart) -> Json:
    """The figure of a drawing, with a trace for everything in it that has an arm."""
    return _panel(drawing) if isinstance(drawing, Panel) else _chart(drawing)


def _panel(panel: Panel) -> Json:
    on_top = sorted(panel.series, key=lambda series: series.style.is_highlighted)
    is_labelled = len(panel.series) > 1 and not panel.labels
    traces = [trace for series in on_top for trace in _series(series, is_labelled=is_labelled)]
    layout: Json = {"xaxis": _axis("x", panel.x, panel.x.limits), "yaxis": _axis("y", panel.y, y_limits(panel))}
    layout |= {"shapes": list(shapes(panel))} if panel.has_lines else {}
    layout |= {"annotations": list(annotations(panel))} if panel.has_words else {}
    return _checked(traces, layout)


def _series(series: Series, *, is_labelled: bool) -> Iterator[Json]:
    if series.behind:
        yield from (_faint(series, one) for one in series.behind)
    elif series.spread and not series.has_bars:
        yield _band(series)
    yield _trace(series, name=_name(series), ends_as=_label(series) if is_labelled else "", **_look(series))
    if series.marks:
        yield _marks(series)


def _label(series: Series) -> str:
    """What stands at the end of its line, a few words below each other; points have none, and extras."""
    if series.shape == "points" or series.is_extra:
        return ""
    return "<br>".join(map(html.escape, textwrap.wrap(series.name, LABEL_WIDTH)))


def _name(series: Series) -> str:
    title = series.style.title
    return title if series.name == title else f"{series.name} ({title})"


def _look(series: Series) -> Json:
    style = series.style
    size = POINT if style.is_highlighted else SMALL_POINT
    if series.shape == "points":
        return {"mode": "markers", "marker": _marker(style, size), "opacity": 0.9}
    line = _line(style, LINE * style.width) | ({"shape": "hv"} if series.shape == "steps" else {})
    if series.markers == "all":
        return {"mode": "lines+markers", "line": line, "marker": _marker(style, 0.7 * size)}
    return {"mode": "lines", "line": line}


def _faint(series: Series, one: Series) -> Json:
    style, name = series.style, f"{series.style.title}, {one.label}"
    if one.shape == "points":
        return _trace(one, name=name, mode="markers", marker=_marker(style, FAINT_POINT), opacity=0.35)
    return _trace(one, name=name, mode="lines", line=_line(style, THIN_LINE), opacity=0.3, hoverinfo="skip")


def _band(series: Series) -> Json:
    """Between the ends of the spread, as one closed line."""
    kept = [i for i, ends in enumerate(zip(series.low, series.high, strict=True)) if all(map(math.isfinite, ends))]
    around, color = [*kept, *reversed(kept)], series.style.color.page
    outline = replace(
        series,
        x=[series.x[i] for i in around],
        y=[*(series.low[i] for i in kept), *(series.high[i] for i in reversed(kept))],
        clocks={name: [xs[i] for i in around] for name, xs in series.clocks.items()},
    )
    look: Json = {"mode": "lines", "fill": "toself", "fillcolor": color, "line": {"width": 0, "color": color}}
    return _trace(outline, name=f"{series.style.title}, {series.spread}", opacity=0.15, hoverinfo="skip", **look)


def _trace(series: Series, *, ends_as: str = "", **look: Any) -> Json:
    meta = _meta(series) | ({"label": ends_as} if ends_as else {})
    if series.clocks:  # they wait for the page's buttons
        meta["clocks"] = {name: _rounded(xs) for name, xs in series.clocks.items()}
    return {"type": "scatter", "x": _rounded(series.x), "y": _rounded(series.y), "meta": meta, **look}


def _marks(series: Series) -> Json:
    """Marks are no data: the page leaves them out of what it writes, and shows the true values over them."""
    kind = "-open" if series.style.dash else ""
    symbols = [f"triangle-{mark.direction}{kind}" for mark in series.marks]
    return {
        "type": "scatter",
        "x": [mark.at[0] for mark in series.marks],
        "y": [mark.at[1] for mark in series.marks],
        "mode": "markers",
        "name": series.style.title,
        "text": list(map(_out_of_view, series.marks)),
        "hoverinfo": "name+text",
        "cliponaxis": False,
        "meta": {**_meta(series), "is_mark": True},
        "marker": {"color": series.style.color.page, "size": 11, "symbol": symbols, "line": {"width": 2}},
    }


def _out_of_view(mark: Mark) -> str:
    x, y = mark.point
    return "diverged" if math.isnan(y) else f"out of view: ({x:.3g}, {y:.3g})"


def _chart(chart: BarChart) -> Json:
    traces = [_bar(bar) if chart.from_zero else _dot(bar) for bar in chart.bars if not math.isnan(bar.value)]
    axis: Json = {"title": {"text": chart.label}}
    if chart.is_share:
        axis["tickformat"] = ".0%"
    if chart.is_cut and chart.limits is not None:
        axis["range"] = list(chart.limits)
        traces += [mark for bar in chart.bars for mark in _cut(bar, chart.limits)]
    if chart.from_zero:
        axis |= {"zeroline": True, "zerolinewidth": 2, "nticks": 6, "tickangle": 0}
    layout = {
        "xaxis": axis,
        "yaxis": {"autorange": "reversed", "type": "category", "showgrid": not chart.from_zero},
        "height": 90 + ROW_HEIGHT * len(chart.bars),
        "barmode": "overlay",
        "shapes": list(_groups(chart)),
    }
    return _checked(traces, layout)


def _groups(chart: BarChart) -> Iterator[Json]:
    """Bars beside the ranks, each of which joins arms that do not differ by more than chance explains."""
    last = max(bar.value for bar in chart.bars)
    for number, (first, end) in enumerate(chart.groups):
        x = last + 0.3 + 0.06 * last * (number + 1)
        line = {"color": GREY.page, "width": 4}
        yield {"type": "line", "x0": x, "x1": x, "y0": first - 0.3, "y1": end + 0.3, "line": line}


def _bar(bar: Bar) -> Json:
    color = bar.style.color.page
    look: Json = {"type": "bar", "orientation": "h", "width": 0.7, "marker": {"color": color, "opacity": 0.45}}
    return {**_row(bar), **look}


def _cut(bar: Bar, limits: tuple[float, float]) -> Iterator[Json]:
    """A triangle at the edge for a bar that goes on beyond it; a mark, as of a point out of view."""
    low, high = limits
    if not low <= bar.value <= high:
        inside = INSIDE * (high - low)
        x, direction = (high - inside, "right") if bar.value > high else (low + inside, "left")
        marker = {"color": bar.style.color.page, "size": 11, "symbol": f"triangle-{direction}"}
        text = f"goes on to {bar.value:.3g}"
        where = {"x": [x], "y": [bar.name], "name": bar.style.title, "text": [text], "hoverinfo": "name+text"}
        look = {"type": "scatter", "mode": "markers", "cliponaxis": False, "marker": marker}
        yield {**where, **look, "meta": {"arm": bar.style.arm, "is_mark": True}}


def _dot(bar: Bar) -> Json:
    return {**_row(bar), "type": "scatter", "mode": "markers", "marker": _marker(bar.style, 9.0)}


def _row(bar: Bar) -> Json:
    low, high = (bar.value if end is None else end for end in (bar.low, bar.high))
    interval = {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, high - bar.value)],
        "arrayminus": [max(0.0, bar.value - low)],
        "color": bar.style.color.page,
        "thickness": 2,
        "width": 3,
    }
    return {"x": [bar.value], "y": [bar.name], "name": bar.style.title, "meta": {"arm": bar.style.arm}} | (
        {} if bar.low is None else {"error_x": interval}
    )


def _meta(series: Series) -> Json:
    return {"arm": series.style.arm, **({"is_extra": True} if series.is_extra else {})}


def _line(style: Style, width: float) -> Json:
    dash = ",".join(f"{2 * length:g}px" for length in style.dash)
    return {"color": style.color.page, "width": width, "dash": dash or "solid"}


def _marker(style: Style, size: float) -> Json:
    """Filled where the line is solid; an outline of one pixel, which is plotly's, is faint."""
    found = {"color": style.color.page, "size": size, "symbol": style.marker}
    return found | ({"symbol": f"{style.marker}-open", "line": {"width": 2}} if style.dash else {})


def _axis(which: str, axis: Axis, limits: tuple[float, float] | None) -> Json:
    found: Json = {"title": {"text": axis.label}}
    if axis.is_share:
        found["tickformat"] = ".0%"
    if axis.scale == "log":
        ends = None if limits is None else [math.log10(end) for end in limits]
        decades = 0.0 if ends is None else abs(ends[1] - ends[0])
        found |= {"type": "log", "range": ends, "tickangle": 0} | (
            {} if ends is None else {"dtick": 1 + int(decades) // MOST_DECADES}
        )
        if limits is not None and decades < FEW_DECADES[which] and not len(axis.ticks):
            places = ticks(limits)
            found |= {"tickvals": places, "ticktext": [f"{place:g}" for place in places]}
    elif limits is not None:
        found["range"] = list(limits)
    elif 0.0 in axis.keep:
        found["rangemode"] = "tozero"
    if len(axis.ticks):
        found |= {"tickvals": list(axis.ticks), "ticktext": list(axis.tick_labels)}
    return found


def _checked(traces: Sequence[Json], layout: Json) -> Json:
    """The figure, checked by plotly, which refuses properties that it does not know."""
    found: Json = go.Figure({"data": traces, "layout": {"template": "none", **layout}}).to_plotly_json()
    return found


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Four digits: more cannot be seen, and would double the page. What is not finite has no point."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]
