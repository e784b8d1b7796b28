import pytest

from dcao_lab.report.figures.drawings import Axis, Bar, BarChart, Panel, Series
from dcao_lab.report.figures.styles import COLORS, Style
from dcao_lab.report.paper.panels import draw_panels
from dcao_lab.report.paper.ranks import draw_ranks

STYLE = Style(arm="a", title="A", color=COLORS[0], dash=(), marker="circle", is_highlighted=True)
NAMES = [f"an optimizer with quite a long name, number {number}" for number in range(5)]


def panel(names):
    series = [Series(label=name, style=STYLE, x=[1, 2], y=[1.0, 2.0]) for name in names]
    return draw(series, Axis(label="loss", scale="log"))


def draw(series, y):
    return Panel(title="", paper_title="$5 and $6", x=Axis(label="step"), y=y, series=series)


def names_outside(figure, texts):
    figure.canvas.draw()
    page = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent(figure.canvas.get_renderer())) for text in texts]
    return [name for name, box in boxes if box.x0 < page.x0 or box.x1 > page.x1 or box.y0 < page.y0]


@pytest.mark.parametrize("num_panels", [1, 2, 3])
def test_long_names_stay_inside_the_figure(num_panels):
    figure = draw_panels([panel(NAMES)] * num_panels)
    assert names_outside(figure, figure.legends[0].get_texts()) == []


def test_a_name_is_in_the_legend_once():
    figure = draw_panels([panel(["a", "b"]), panel(["b", "c"])])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_the_names_of_a_rank_diagram_stay_inside_the_figure():
    bars = [Bar(label=name, value=rank, style=STYLE) for name, rank in zip(NAMES, (1, 2, 3, 4.5, 4.5), strict=True)]
    figure = draw_ranks(BarChart(title="", label="", bars=bars, critical_difference=9.0, groups=[(0, 4)]))
    assert names_outside(figure, figure.axes[0].texts) == []


@pytest.mark.filterwarnings("error")
def test_a_loss_of_1e300_beyond_the_limits_is_drawn_without_a_warning():
    lost = Series(label="lost", style=STYLE, x=[1, 2, 3], y=[1.0, 3e300, 2.0])
    figure = draw_panels([draw([lost], Axis(label="perplexity", scale="log", limits=(0.5, 4.0)))])
    figure.canvas.draw()
    assert figure.axes[0].get_ylim() == (0.5, 4.0)
