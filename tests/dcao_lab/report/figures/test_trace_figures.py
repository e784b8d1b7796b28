"""The traces of s and the sharpness."""

import dataclasses

import helpers.paper_cases as paper_cases
from dcao_lab.report.figures import traces
from dcao_lab.report.figures.axes import y_limits
from dcao_lab.report.figures.sheets import by_workload
from dcao_lab.report.figures.traces import own_edge
from dcao_lab.report.html.plots import figure
from dcao_lab.report.numbers import analyse
from dcao_lab.report.paper.panels import draw_panels
from dcao_lab.study import Arm
from helpers.report_studies import planned, result_of, stored, study

PROBES = tuple(paper_cases.record(step, 1.0, 10.0) for step in range(3))


def family(number):
    bare = Arm(name=f"sgd {number}", title=f"SGD {number}", optimizer="sgd", group=f"family {number}")
    return bare, dataclasses.replace(bare, name=f"dcao {number}", optimizer="dcao:sgd", reference=bare.name)


def watched(arms):
    plans = [planned(arm, 0, phase="watched") for arm in arms]
    return analyse(
        result_of(
            study(*arms), [(plan, dataclasses.replace(stored(plan.config, 0.9), probes=PROBES)) for plan in plans]
        )
    )


def test_families_of_arms_have_panels_of_their_own_beside_each_other():
    arms = [arm for number in range(4) for arm in family(number)]
    sheet = by_workload(watched(arms), "stability", traces.stability)
    assert [panel.paper_title for panel in sheet.drawings] == [f"Digits MLP, family {number}" for number in range(4)]
    assert sheet.columns == 4
    assert {panel.edge for panel in sheet.drawings} == {2.0}
    for panel in sheet.drawings:
        colors = [series.style.color for series in panel.series]
        assert len(set(colors)) == len(colors) == 2


def test_of_many_arms_without_families_the_leading_ones_are_drawn_and_the_figure_says_so():
    arms = [Arm(name=f"a{number}", title=f"A {number}", optimizer="sgd") for number in range(12)]
    sheet = by_workload(watched(arms), "raw_stability", traces.raw_stability)
    assert [len(panel.series) for panel in sheet.drawings] == [8]
    assert sheet.note.startswith("Shown are 8 of 12 arms")


def test_the_largest_ritz_value_of_sgd_alone_has_an_edge():
    arms = family(0)
    (panel,) = traces.sharpness(watched(arms), "digits_mlp")
    edges = [series for series in panel.series if series.label.startswith("edge of SGD alone")]
    assert [list(series.y) for series in edges] == [[2 * (1 + 0.9) / 0.1] * 3]  # momentum 0.9, lr 0.1
    assert y_limits(panel)[1] > 38.0


def test_the_edge_of_sgd_alone_looks_like_no_arm():
    """Solid and dashed tell whether DCAO steers; it is wide and pale, and behind all else in both inks."""
    (panel,) = traces.sharpness(watched(family(0)), "digits_mlp")
    arms, edges = ([s for s in panel.series if bool(s.label) == is_edge] for is_edge in (False, True))
    assert edges[0].style.width > 2 * max(series.style.width for series in arms)
    assert edges[0].style.color not in {series.style.color for series in arms}
    assert edges[0].style.dash == ()
    (axes,) = draw_panels([panel]).axes
    (wide,) = (line for line in axes.lines if line.get_linewidth() > 3.0)
    assert wide.zorder == min(line.zorder for line in axes.lines)
    lowest, *others = (trace["line"] for trace in figure(panel)["data"])
    assert (lowest["color"], lowest["dash"]) == (edges[0].style.color.page, "solid")
    assert lowest["width"] > 2 * max(line["width"] for line in others)


def test_the_edge_of_another_optimizer_is_not_known_from_its_learning_rate():
    adamw = planned(Arm(name="adamw", title="AdamW", optimizer="adamw"), 0)
    assert own_edge(dataclasses.replace(stored(adamw.config, 0.9), probes=PROBES)) == ([], [])
