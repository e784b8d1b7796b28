import dataclasses
import math

import numpy as np
import pytest

import helpers.paper_cases as paper_cases
from dcao_lab.report.analysis.solutions import smoothed_density
from dcao_lab.report.figures import sheets, traces
from dcao_lab.report.figures.comparisons import bar_limits
from dcao_lab.report.figures.curves import curve, training_loss
from dcao_lab.report.figures.drawings import Mark
from dcao_lab.report.figures.solutions import density_grid
from dcao_lab.report.figures.styles import styles
from dcao_lab.report.numbers import analyse
from dcao_lab.study import Variation
from helpers.crowded_studies import MANY, RATES, ablation
from helpers.report_studies import ADAMW, DCAO_ADAMW, SGD, study

TASK, ARM = paper_cases.TASKS[0], paper_cases.ARMS[0]


@pytest.fixture(scope="module")
def numbers():
    return analyse(paper_cases.full_result())


def sheet(numbers, name):
    return next(sheet for sheet in sheets.sheets(numbers) if sheet.name == name)


def band(runs, read):
    return curve(runs, read, "steps", styles(paper_cases.study(), ())[ARM.name])


def accuracy(point):
    return point.metrics["validation_accuracy"]


def test_a_band_is_the_quartiles_over_the_runs():
    runs = [paper_cases.stored(TASK, ARM, final, seed=seed) for seed, final in enumerate((0.1, 0.2, 0.3, 0.4, 0.5))]
    found = band(runs, accuracy)
    assert (found.x, found.spread) == ([0.0, 5.0, 10.0], "quartiles")
    assert (found.low[-1], found.y[-1], found.high[-1]) == pytest.approx((0.2, 0.3, 0.4))


def test_a_band_of_few_runs_is_their_range():
    runs = [paper_cases.stored(TASK, ARM, final, seed=seed) for seed, final in enumerate((0.1, 0.2, 0.4))]
    found = band(runs, accuracy)
    assert (found.spread, found.low[-1], found.y[-1], found.high[-1]) == ("range", 0.1, 0.2, 0.4)


def test_a_band_has_a_gap_where_a_run_has_no_number():
    runs = [paper_cases.stored(TASK, ARM, 0.5), paper_cases.stored(TASK, ARM, None, seed=1)]
    assert all(map(math.isnan, band(runs, accuracy).y))


def test_a_density_has_the_mass_of_its_weights():
    nodes = [0.0, 1.0, 5.0]
    grid, width = density_grid([nodes, [0.5]])
    values = smoothed_density(nodes, [0.7, 0.2, 0.1], grid, width)
    assert width == 0.05  # a hundredth of the widest range
    assert np.trapezoid(values, grid) == pytest.approx(1.0, abs=1e-3)  # the bells are cut at four deviations: 6e-5


def test_raw_stability_is_the_learning_rate_times_the_largest_ritz_value(numbers):
    (panel,) = traces.raw_stability(numbers, "digits_mlp")
    assert panel.edge == 2.0
    assert panel.series[0].y == pytest.approx([0.1 * (10.0 + step) for step in range(12)])


def test_the_preconditioned_number_has_a_panel_where_a_spectrum_was_taken(numbers):
    (panel,) = traces.preconditioned_stability(numbers, "digits_mlp")
    assert (panel.edge, panel.series[0].y) == (2.0, pytest.approx([0.5] * 12))


def test_a_diverged_start_is_a_cross_and_not_a_gap_alone(numbers):
    (panel,) = sheets.robustness(numbers, "lr").drawings
    bare = panel.series[0]
    assert bare.lost == [0.1]
    assert bare.y[0] == 0.9
    assert math.isnan(bare.y[1])
    assert panel.worst == "bottom"


def test_a_gain_is_to_the_right_whichever_way_the_metric_goes(numbers):
    gpt = sheet(numbers, "gains").drawings[1]
    assert gpt.bars[0].value == 2.0  # two less of a perplexity
    assert (gpt.bars[0].low, gpt.bars[0].high) == (2.0, 2.0)


@pytest.fixture(scope="module")
def crowded():
    return analyse(ablation())


def test_an_ablation_has_a_row_of_charts_a_reference_and_a_column_a_condition(crowded):
    (found,) = (sheet for sheet in sheets.gain_sheets(crowded) if sheet.drawings)
    assert (found.name, found.columns) == ("gains_digits_mlp", len(RATES))
    assert [chart.title for chart in found.drawings[:3]] == [
        f"initial learning rate {x}" for x in ("1e-5", "1e-3", "1e-1")
    ]
    over_adamw, over_dcao = found.drawings[0], found.drawings[3]
    assert over_adamw.paper_label == "gain over AdamW in points"
    assert over_dcao.paper_label == "gain over DCAO(AdamW) in points"
    assert [bar.label for bar in over_adamw.bars] == ["DCAO(AdamW)", "literal DCAO(AdamW)"]
    assert [bar.label for bar in over_dcao.bars] == [f"x=dcao-{number}" for number in range(20)]
    assert [bar.value for bar in over_dcao.bars] == pytest.approx([1 + 2 * number for number in range(20)])


def test_an_arm_without_runs_under_one_condition_keeps_its_row():
    result = ablation()
    runs = tuple(
        (plan, run)
        for plan, run in result.runs
        if (plan.arm.name, plan.variation) != ("dcao-3", Variation(axis="lr", value=0.1))
    )
    charts = sheet(analyse(dataclasses.replace(result, runs=runs)), "gains_digits_mlp").drawings
    complete, gappy = charts[3].bars, charts[5].bars
    assert [bar.label for bar in gappy] == [bar.label for bar in complete]
    assert [bar.label for bar in gappy if math.isnan(bar.value)] == ["x=dcao-3"]


def test_a_bar_far_longer_than_the_others_does_not_press_them_flat_and_is_seen(crowded):
    charts = sheet(crowded, "gains_digits_mlp").drawings
    bars = [dataclasses.replace(bar, value=v, low=None, high=None)
            for bar, v in zip(charts[3].bars, (-60.0, *range(1, 20)), strict=True)]  # fmt: skip
    low, high = bar_limits(bars)
    assert -10.0 < low <= -0.25 * 19.0  # a part of it is seen, though it is alone on its side of zero
    assert high > 19.0


def test_learning_curves_of_many_arms_are_those_of_the_leading_ones(crowded):
    found = sheet(crowded, "training_loss")
    assert (len(found.drawings), found.columns) == (len(RATES), len(RATES))
    assert {len(panel.series) for panel in found.drawings} == {8}
    assert len({crowded.styles[name].color for name in crowded.leading}) == 8
    assert found.note.startswith(f"Lines: medians; bands: the range over seeds. Shown are 8 of {len(MANY)} arms: ")
    assert "evaluations.parquet" in found.note


def test_a_figure_says_that_arms_are_left_out_only_where_some_are(crowded):
    assert "of 23 arms" in sheets.robustness(crowded, "lr").note
    few = [one for one in crowded.sweeps if one.arm in ("adamw", "dcao:adamw", "dcao-19")]
    assert "arms" not in sheets.robustness(dataclasses.replace(crowded, sweeps=tuple(few)), "lr").note


def test_a_page_has_the_curves_of_all_arms_those_of_the_others_on_demand(crowded):
    for panel in training_loss(crowded, "digits_mlp"):
        assert {series.style.arm for series in panel.series} == {arm.name for arm in MANY}
        assert {series.style.arm for series in panel.series if not series.is_extra} == set(crowded.leading)


def test_a_network_far_out_has_a_mark_at_the_edge_and_is_counted():
    result = paper_cases.full_result()
    runs = [
        (plan, dataclasses.replace(run, result=dataclasses.replace(run.result, generalisation_gap=4e4)))
        if run.result.solution is not None and plan.config.seed == 4
        else (plan, run)
        for plan, run in result.runs
    ]
    found = sheets.generalisation(analyse(dataclasses.replace(result, runs=tuple(runs))), "sharpness")
    (scatter,) = found.drawings
    (cloud,) = scatter.series
    assert scatter.paper_title == "Digits MLP, 1 of 5 out of view"
    assert scatter.y.limits[1] < 1.0
    assert cloud.marks == [Mark(at=(4.0, scatter.y.limits[1]), direction="up", point=(4.0, 4e4))]
    assert found.note.startswith("A triangle at the edge: a network out of view")


def test_the_share_that_reached_the_target_ends_at_the_share_of_runs_that_did(numbers):
    gpt = sheet(numbers, "time_to_target").drawings[1]
    assert [series.y[-1] for series in gpt.series] == [1.0, 1.0, 1.0]
    assert [series.x[1] for series in gpt.series] == [5.0, 6.0, 5.0]


def test_arms_differ_without_colour():
    looks = styles(paper_cases.study(), ())
    assert len({(look.dash, look.marker) for look in looks.values()}) == len(looks)
    assert looks["dcao"].dash == ()  # solid
    assert looks["dcao"].color == looks["adamw"].color  # the same optimizer underneath


@pytest.mark.parametrize("name", ["training_loss", "robustness_lr", "time_to_target", "generalisation_sharpness"])
def test_a_figure_of_a_paper_says_what_solid_and_dashed_mean(numbers, name):
    meaning = "Solid lines and filled markers: steered by DCAO; dashed and hollow: not."
    assert sheet(numbers, name).note.endswith(meaning)


def test_what_a_study_of_many_arms_is_about_is_drawn_wider():
    others = [dataclasses.replace(SGD, name=f"other {number}") for number in range(9)]
    looks = styles(study(ADAMW, DCAO_ADAMW, *others), ("other 0",))
    assert looks["dcao:adamw"].width == looks["adamw"].width > looks["other 0"].width
    assert looks["dcao:adamw"].color != looks["other 0"].color != looks["other 1"].color == looks["other 2"].color
