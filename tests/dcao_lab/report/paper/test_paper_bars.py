"""Bars and ranks with long names: nothing is cut, nothing lies on top of something else, and matplotlib has no say."""

from dataclasses import replace
from itertools import pairwise

import pytest
from matplotlib import style

from dcao_lab.report.figures.drawings import Axis, Bar, BarChart, Panel, Series, Sheet
from dcao_lab.report.figures.sheets import gain_sheets
from dcao_lab.report.figures.styles import COLORS, Style
from dcao_lab.report.numbers import analyse
from dcao_lab.report.paper.bars import draw_bars
from dcao_lab.report.paper.canvas import RC
from dcao_lab.report.paper.pages import HIGHEST, pages
from dcao_lab.report.paper.panels import draw_panels
from dcao_lab.report.paper.ranks import draw_ranks
from dcao_lab.report.paper.write import write_paper
from dcao_lab.study import Arm
from dcao_lab.study.recipes import get_recipe
from helpers.report_studies import finals, result_of, study, task

STYLE = Style(arm="a", title="A", color=COLORS[0], dash=(), marker="circle", is_highlighted=True)
LONG = "literal DCAO(SGD), no momentum, a setting of {}, lr 0.05 over SGD, no momentum, weight decay 0.0005, lr 0.05"


@pytest.fixture(autouse=True)
def on_paper():
    """Letters are as large as in the files."""
    with style.context(["default", RC]):
        yield


def chart(*names, limits=(-0.06, 0.031), title="Digits MLP, batch 1024"):
    bars = [Bar(label=name, value=0.01, style=STYLE, low=-0.02, high=0.03) for name in names]
    return BarChart(title=title, label="", paper_label="gain in points", bars=bars, limits=limits)


def boxes(figure, texts):
    return [text.get_window_extent(figure.canvas.get_renderer()) for text in texts if text.get_text()]


def texts_of(axes):
    return [*axes.get_yticklabels(), *axes.get_xticklabels(), axes.title, axes.xaxis.label]


def require_whole(figure):
    """All words inside the figure, and the numbers of each axis apart; a warning of matplotlib would be an error."""
    figure.canvas.draw()
    for axes in figure.axes:
        for box in boxes(figure, texts_of(axes)):
            assert box.x0 >= 0.0
            assert box.x1 <= figure.bbox.x1
            assert box.y0 >= 0.0
        numbers = sorted(boxes(figure, axes.get_xticklabels()), key=lambda box: box.x0)
        assert all(one.x1 < other.x0 for one, other in pairwise(numbers))
    named = [boxes(figure, [*axes.get_yticklabels()]) for axes in figure.axes]
    for names in named:
        ordered = sorted(names, key=lambda box: -box.y0)
        assert all(one.y0 > other.y1 for one, other in pairwise(ordered))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_charts", [1, 2, 3, 5])
@pytest.mark.parametrize("is_alike", [True, False], ids=["alike", "each with its own"])
def test_long_names_of_bars_are_whole(num_charts, is_alike):
    first = [0 if is_alike else number for number in range(num_charts)]
    charts = [chart(*(LONG.format(start + bar) for bar in range(6))) for start in first]
    require_whole(draw_bars(charts))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "limits", [(-0.0076, 0.0004), (-1.3, 2.6), (-0.09, 0.06), (0.0, 0.0251), (-2000.0, 4000.0)], ids=str
)
def test_numbers_below_four_narrow_charts_are_apart(limits):
    require_whole(draw_bars([chart("DCAO(AdamW) over AdamW", "SGD + cosine", limits=limits)] * 4))


def test_an_arm_repeats_no_setting_of_its_reference_beside_it():
    config = get_recipe("eos")("embedded")
    result = result_of(replace(config, tasks=(task(),), watching=None), *(finals(arm, [0.9]) for arm in config.arms))
    found, *_ = gain_sheets(analyse(result))
    labels = [bar.label.replace("\N{NO-BREAK SPACE}", " ") for bar in found.drawings[0].bars]
    assert labels[:3] == [
        "DCAO(SGD) over SGD, no momentum, lr 0.05",
        "DCAO(SGD), proposal's rule over SGD, no momentum, lr 0.05",
        "literal DCAO(SGD) over SGD, no momentum, lr 0.05",
    ]


def test_an_arm_keeps_its_name_beside_a_reference_of_the_same():
    arms = (Arm(name="a", title="AdamW", optimizer="adamw"), Arm(name="s", title="SGD", optimizer="sgd"))
    own = [Arm(name=f"{arm.name} 1", title=f"{arm.title}, lr=1", optimizer=arm.optimizer, lr=1.0, reference=arm.name)
           for arm in arms]  # fmt: skip
    found, *_ = gain_sheets(analyse(result_of(study(*arms, *own), *(finals(arm, [0.9]) for arm in (*arms, *own)))))
    assert [bar.label.replace("\N{NO-BREAK SPACE}", " ") for bar in found.drawings[0].bars] == [
        "AdamW, lr 1 over AdamW",
        "SGD, lr 1 over SGD",
    ]


@pytest.mark.filterwarnings("error")
def test_the_figures_of_a_study_of_long_names_are_drawn_without_a_warning(tmp_path):
    config = get_recipe("eos")("embedded")
    groups = [finals(arm, [0.8 + 0.01 * number], on=on, target=3.0) for on in config.tasks
              for number, arm in enumerate(config.arms) if (number, on) != (3, config.tasks[0])]  # fmt: skip
    paths = write_paper(result_of(config, *groups), tmp_path)
    assert {"gains.png", "critical_difference.png"} <= {path.name for path in paths}


@pytest.mark.parametrize("num_arms", [2, 6, 14, 21])
def test_names_and_numbers_of_a_rank_diagram_are_apart(num_arms):
    names = [LONG.format(number).partition(" over")[0] for number in range(num_arms)]
    bars = [Bar(label=name, value=rank + 1.0, style=STYLE) for rank, name in enumerate(names)]
    figure = draw_ranks(BarChart(title="", label="", bars=bars, critical_difference=9.0, groups=[(0, 1)]))
    figure.canvas.draw()
    texts = dict(zip(figure.axes[0].texts, boxes(figure, figure.axes[0].texts), strict=True))
    numbers = [box for text, box in texts.items() if text.get_text().isdigit()]
    assert len(numbers) > 1
    assert all(one.x1 < other.x0 for one, other in pairwise(sorted(numbers, key=lambda box: box.x0)))
    for align in ("left", "right"):
        column = [box for text, box in texts.items() if "DCAO" in text.get_text() and text.get_ha() == align]
        assert all(one.y0 > other.y1 for one, other in pairwise(sorted(column, key=lambda box: -box.y0)))
        assert all(box.x0 >= 0.0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0.0 for box in column)
    assert figure.get_figwidth() <= 6.75


@pytest.mark.parametrize(("low", "high"), [(5.5, 19.0), (1.9, 5.2), (3.2, 3.9), (1e-4, 3.0), (0.4, 1e6)], ids=str)
def test_a_logarithmic_axis_has_numbers_enough_to_be_read(low, high):
    series = Series(style=STYLE, x=[1, 2], y=[low, high])
    panel = Panel(title="", paper_title="", x=Axis(label="step"), y=Axis(label="loss", scale="log"), series=[series])
    figure = draw_panels([panel])
    figure.canvas.draw()
    bottom, top = figure.axes[0].get_ylim()
    assert 3 <= sum(bottom <= value <= top for value in figure.axes[0].get_yticks()) <= 9


def panels(number):
    series = Series(style=STYLE, x=[1, 2], y=[1.0, 2.0])
    axis = Axis(label="step")
    return [Panel(title="", paper_title=str(n), x=axis, y=axis, series=[series]) for n in range(number)]


@pytest.mark.parametrize(
    ("drawings", "columns"), [(panels(29), None), (panels(30), 4), ([chart(*"abcdef")] * 29, None)]
)
def test_a_figure_of_more_rows_than_a_page_has_room_for_is_several(drawings, columns):
    found = list(pages(Sheet(name="many", drawings=drawings, columns=columns, note="A note.")))
    assert [part.name for part in found] == [f"many_{number}" for number in range(1, len(found) + 1)]
    assert len(found) > 1
    assert [one for part in found for one in part.drawings] == drawings
    draw = draw_panels if isinstance(drawings[0], Panel) else draw_bars
    for part in found:
        assert (
            len(part.drawings) == len(drawings) or draw(part.drawings, columns=part.columns).get_figheight() <= HIGHEST
        )


def test_a_figure_that_a_page_has_room_for_is_one():
    assert [part.name for part in pages(Sheet(name="few", drawings=panels(12)))] == ["few"]
