"""One description, two inks: what a page and a paper make of the same figures and tables."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
from matplotlib.colors import to_hex

from dcao_lab.report.figures.axes import y_limits
from dcao_lab.report.figures.drawings import Axis, Bar, BarChart, Mark, Panel, Series
from dcao_lab.report.figures.styles import COLORS, Style
from dcao_lab.report.html.plots import figure
from dcao_lab.report.html.tables import table_context
from dcao_lab.report.paper.bars import draw_bars
from dcao_lab.report.paper.panels import draw_panels
from dcao_lab.report.tables.base import Cell, Column, Table

FIRST = Style(arm="a", title="A", color=COLORS[0], dash=(), marker="circle", is_highlighted=True)
SECOND = replace(FIRST, arm="b", title="B", color=COLORS[1], dash=(4, 1.5), marker="square", is_highlighted=False)
RUN = Series(label="seed 0", style=FIRST, x=[1, 2], y=[2.0, 5.0])
LINE = Series(
    label="A", style=FIRST, x=[1, 2, 3], y=[2.0, 4.0, math.nan], spread="range", low=[1.0, 3.0, math.nan],
    high=[3.0, 5.0, math.nan],
)  # fmt: skip
POINTS = Series(
    label="B",
    style=SECOND,
    x=[1, 2],
    y=[1.0, 900.0],
    shape="points",
    marks=[Mark(at=(2, 8.0), direction="up", point=(2, 900.0))],
)


def panel(*series, **changes):
    settings = {"x": Axis(label="step"), "y": Axis(label="s", scale="log", limits=(0.5, 8.0)), "edge": 2.0}
    return Panel(title="On a page", paper_title="On paper", series=series, **{**settings, **changes})


def traces(drawn):
    return {trace["name"]: trace for trace in figure(drawn)["data"]}


def test_both_inks_draw_the_same_values_in_the_colour_of_the_arm():
    drawn = panel(LINE)
    on_page = traces(drawn)["A"]
    (axes,) = draw_panels([drawn]).axes
    on_paper = next(line for line in axes.lines if len(line.get_xdata()) == 3)
    assert (on_page["x"], on_page["y"]) == ([1.0, 2.0, 3.0], [2.0, 4.0, None])
    assert list(on_paper.get_xdata()) == on_page["x"]
    assert list(on_paper.get_ydata())[:2] == on_page["y"][:2]
    assert on_page["line"]["color"] == COLORS[0].page
    assert to_hex(on_paper.get_color()) == COLORS[0].paper.lower()


@pytest.mark.parametrize("shape", ["line", "points"])
def test_both_inks_fill_the_markers_of_what_is_solid_and_no_others(shape):
    drawn = panel(
        *(replace(LINE, label=style.title, style=style, shape=shape, markers="all") for style in (FIRST, SECOND))
    )
    symbols = {name: trace["marker"]["symbol"] for name, trace in traces(drawn).items() if "marker" in trace}
    assert symbols == {"A": "circle", "B": "square-open"}
    first, second = (line for line in draw_panels([drawn]).axes[0].lines if len(line.get_xdata()) == 3)
    assert to_hex(first.get_markerfacecolor()) == FIRST.color.paper.lower()
    assert second.get_markerfacecolor() in ("white", "none")
    assert to_hex(second.get_markeredgecolor()) == SECOND.color.paper.lower()
    assert second.get_markeredgewidth() > 0.0


def test_both_inks_have_the_same_ends_of_an_axis():
    drawn = panel(LINE, y=Axis(label="loss", scale="log"))
    low, high = y_limits(drawn)
    assert low < 2.0 < 4.0 < high
    assert figure(drawn)["layout"]["yaxis"]["range"] == pytest.approx([math.log10(low), math.log10(high)])
    assert draw_panels([drawn]).axes[0].get_ylim() == pytest.approx((low, high))


def test_each_ink_has_its_own_title():
    drawn = panel(LINE)
    assert draw_panels([drawn]).axes[0].get_title() == "On paper"
    assert drawn.title == "On a page"


def test_a_page_prefers_the_runs_and_a_paper_the_spread():
    drawn = panel(replace(LINE, behind=[RUN]))
    assert set(traces(drawn)) == {"A", "A, seed 0"}
    assert set(traces(panel(LINE))) == {"A", "A, range"}
    (axes,) = draw_panels([drawn]).axes
    assert len(axes.collections) == 1  # the band
    assert not [line for line in axes.lines if list(line.get_ydata()) == [2.0, 5.0]]


def test_a_band_goes_around_where_it_has_ends():
    band = traces(panel(LINE))["A, range"]
    assert (band["x"], band["y"]) == ([1.0, 2.0, 2.0, 1.0], [1.0, 3.0, 5.0, 3.0])


def test_extras_wait_on_a_page_without_their_spread_and_are_not_on_paper():
    drawn = panel(LINE, POINTS).showing({"b"})
    assert traces(drawn)["A"]["meta"] == {"arm": "a", "is_extra": True}
    assert "A, range" not in traces(drawn)
    assert [series.label for series in drawn.without_extras().series] == ["B"]


def test_a_point_out_of_view_is_a_triangle_that_a_page_tells_the_truth_about():
    _, mark = figure(panel(POINTS))["data"]
    assert (mark["x"], mark["y"], mark["marker"]["symbol"]) == ([2], [8.0], ["triangle-up-open"])
    assert mark["text"] == ["out of view: (2, 900)"]
    (axes,) = draw_panels([panel(POINTS)]).axes
    assert [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "^"] == [[[2.0, 8.0]]]


def test_a_bar_without_an_interval_has_none_and_an_empty_line_has_no_bar():
    bars = [
        Bar(label="a", value=1.0, style=FIRST, low=0.5, high=2.0),
        Bar(label="b", value=-1.0, style=SECOND),
        Bar(label="c", value=math.nan, style=SECOND),
    ]
    chart = BarChart(
        title="Gains",
        label="gain in points",
        paper_label="gain over C in points",
        bars=bars,
    )
    first, second = figure(chart)["data"]
    assert (first["error_x"]["array"], first["error_x"]["arrayminus"]) == ([1.0], [0.5])
    assert "error_x" not in second
    (axes,) = draw_bars([chart]).axes
    assert axes.get_xlabel() == "gain over C in points"
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]


def test_a_page_has_the_columns_with_a_title_and_names_the_group_in_every_row():
    columns = (Column(title="workload"), Column(title="arm"), Column(paper="Seeds"), Column(title="gain", paper="Gain"))
    rows = [
        ("MLP", "A", "5", Cell(text="+1.0", upto="+2.0")),
        ("MLP", "B", "5", Cell(text="+1.5", unit="points", detail="of 2", shade=3)),
    ]
    table = Table(name="t", label="T", columns=columns, rows=rows, is_grouped=True, most=1)
    found = table_context(table)
    assert [column["title"] for column in found["columns"]] == ["workload", "arm", "gain"]
    assert [column["is_constant"] for column in found["columns"]] == [False, False, False]  # the first names the row
    assert [[cell["text"] for cell in row] for row in found["rows"]] == [
        ["MLP", "A", "+1.0 to +2.0"],
        ["MLP", "B", "+1.5 points"],
    ]
    assert found["rows"][1][2] == {"text": "+1.5 points", "detail": "of 2", "look": "shade-3"}
    assert (found["num_rows"], found["is_folded"]) == ("2", True)
    left = table_context(table, left_out=["workload"])
    assert [column["title"] for column in left["columns"]] == ["arm", "gain"]


def test_a_bar_that_goes_on_beyond_the_axis_has_a_triangle_at_its_end_that_says_how_far():
    bars = [Bar(label="a", value=1.0, style=FIRST), Bar(label="b", value=-40.0, style=SECOND)]
    chart = BarChart(title="Gains", label="gain", bars=bars, limits=(-5.0, 5.0), is_cut=True)
    drawn = figure(chart)
    assert drawn["layout"]["xaxis"]["range"] == [-5.0, 5.0]
    *_, mark = drawn["data"]
    assert len(drawn["data"]) == 3
    assert (mark["y"], mark["marker"]["symbol"], mark["text"]) == (["b"], "triangle-left", ["goes on to -40"])
    assert -5.0 < mark["x"][0] < -4.5
    assert mark["meta"]["is_mark"]  # no part of the data that the page writes
    assert len(figure(replace(chart, is_cut=False))["data"]) == 2


def test_a_column_without_a_value_is_left_out_and_one_that_never_changes_is_told_once():
    columns = [Column(title=title) for title in ("arm", "p", "seeds", "gain")]
    rows = [("A", "-", "5", "+1.0"), ("B", "-", "5", "+2.0")]
    found = table_context(Table(name="t", label="T", columns=columns, rows=rows))
    assert [column["title"] for column in found["columns"]] == ["arm", "seeds", "gain"]
    assert found["constant"] == "seeds: 5"
    assert [cell["look"].strip() for cell in found["rows"][0]] == ["", "constant", ""]


def test_descriptions_need_neither_plotly_nor_matplotlib():
    code = (
        "import sys; import dcao_lab.report.figures.sheets, dcao_lab.report.sections.task, "
        "dcao_lab.report.sections.overview, dcao_lab.report.tables.runs;"
        "sys.exit(bool({'plotly', 'matplotlib', 'jinja2'} & set(sys.modules)))"
    )
    path = ":".join(entry for entry in sys.path if entry)
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False).returncode == 0
