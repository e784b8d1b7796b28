import dataclasses
import math

import numpy as np
import pytest

import helpers.paper_cases as paper_cases
from dcao_lab.paper import comparison_figures, gain_figures, solution_figures, trace_figures, training_figures
from dcao_lab.paper.curves import band, density_grid
from dcao_lab.paper.style import styles
from dcao_lab.report.analysis.solutions import smoothed_density
from dcao_lab.report.numbers import analyse
from dcao_lab.study import Variation
from helpers.crowded_studies import MANY, RATES, ablation

TASK, ARM = paper_cases.TASKS[0], paper_cases.ARMS[0]


@pytest.fixture(scope="module")
def numbers():
    return analyse(paper_cases.full_result())


@pytest.fixture(scope="module")
def looks():
    return styles(paper_cases.ARMS, highlighted={"dcao"})


def accuracy(point):
    return point.metrics["validation_accuracy"]


def test_a_band_is_the_quartiles_over_the_runs():
    runs = [paper_cases.stored(TASK, ARM, final, seed=seed) for seed, final in enumerate((0.1, 0.2, 0.3, 0.4, 0.5))]
    found = band(runs, lambda point: point.step, accuracy)
    assert found.x == (0.0, 5.0, 10.0)
    assert (found.low[-1], found.median[-1], found.high[-1]) == pytest.approx((0.2, 0.3, 0.4))


def test_a_band_of_few_runs_is_their_range():
    runs = [paper_cases.stored(TASK, ARM, final, seed=seed) for seed, final in enumerate((0.1, 0.2, 0.4))]
    found = band(runs, lambda point: point.step, accuracy)
    assert (found.low[-1], found.median[-1], found.high[-1]) == (0.1, 0.2, 0.4)


def test_a_band_has_a_gap_where_a_run_has_no_number():
    runs = [paper_cases.stored(TASK, ARM, 0.5), paper_cases.stored(TASK, ARM, None, seed=1)]
    assert all(map(math.isnan, band(runs, lambda point: point.step, accuracy).median))


def test_a_density_has_the_mass_of_its_weights():
    nodes = [0.0, 1.0, 5.0]
    grid, width = density_grid([nodes, [0.5]])
    values = smoothed_density(nodes, [0.7, 0.2, 0.1], grid, width)
    assert width == 0.05  # a hundredth of the widest range
    assert np.trapezoid(values, grid) == pytest.approx(1.0, abs=1e-3)  # the bells are cut at four deviations: 6e-5


def test_raw_stability_is_the_learning_rate_times_the_largest_ritz_value(numbers, looks):
    (panel,) = trace_figures.raw_stability(numbers, looks).panels
    assert panel.edge == 2.0
    assert panel.curves[0].y == pytest.approx([0.1 * (10.0 + step) for step in range(12)])


def test_the_preconditioned_number_has_a_panel_where_a_spectrum_was_taken(numbers, looks):
    (panel,) = trace_figures.preconditioned_stability(numbers, looks).panels
    assert (panel.edge, panel.curves[0].y) == (2.0, pytest.approx([0.5] * 12))


def test_a_diverged_start_is_a_cross_and_not_a_gap_alone(numbers, looks):
    (panel,) = comparison_figures.robustness(numbers, looks, "lr").panels
    bare = panel.curves[0]
    assert bare.lost == [0.1]
    assert bare.y[0] == 0.9
    assert math.isnan(bare.y[1])
    assert panel.worst == "bottom"


def test_a_gain_is_to_the_right_whichever_way_the_metric_goes(numbers, looks):
    gpt = dict(gain_figures.gain_sheets(numbers, looks))["gains"].charts[1]
    assert gpt.bars[0].value == 2.0  # two less of a perplexity
    assert (gpt.bars[0].low, gpt.bars[0].high) == (2.0, 2.0)


@pytest.fixture(scope="module")
def crowded():
    return analyse(ablation())


@pytest.fixture(scope="module")
def crowded_looks(crowded):
    return styles(MANY, highlighted=set(), leading=crowded.leading)


def test_an_ablation_has_a_row_of_charts_a_reference_and_a_column_a_condition(crowded, crowded_looks):
    ((name, sheet),) = gain_figures.gain_sheets(crowded, crowded_looks)
    assert (name, sheet.columns) == ("gains_digits_mlp", len(RATES))
    assert [chart.title for chart in sheet.charts[:3]] == [
        f"initial learning rate {x}" for x in ("1e-5", "1e-3", "1e-1")
    ]
    over_adamw, over_dcao = sheet.charts[0], sheet.charts[3]
    assert [bar.label for bar in over_adamw.bars] == ["DCAO(AdamW)", "literal DCAO(AdamW)"]
    assert [bar.label for bar in over_dcao.bars] == [f"x=dcao-{number}" for number in range(20)]
    assert [bar.value for bar in over_dcao.bars] == pytest.approx([1 + 2 * number for number in range(20)])


def test_an_arm_without_runs_under_one_condition_keeps_its_row(crowded_looks):
    result = ablation()
    runs = tuple(
        (plan, run)
        for plan, run in result.runs
        if (plan.arm.name, plan.variation) != ("dcao-3", Variation(axis="lr", value=0.1))
    )
    ((_, sheet),) = gain_figures.gain_sheets(analyse(dataclasses.replace(result, runs=runs)), crowded_looks)
    complete, gappy = sheet.charts[3].bars, sheet.charts[5].bars
    assert [bar.label for bar in gappy] == [bar.label for bar in complete]
    assert [bar.label for bar in gappy if math.isnan(bar.value)] == ["x=dcao-3"]


def test_a_bar_far_longer_than_the_others_does_not_press_them_flat_and_is_seen(crowded, crowded_looks):
    ((_, sheet),) = gain_figures.gain_sheets(crowded, crowded_looks)
    bars = [dataclasses.replace(bar, value=v, low=None, high=None)
            for bar, v in zip(sheet.charts[3].bars, (-60.0, *range(1, 20)), strict=True)]  # fmt: skip
    axis = gain_figures.axis(crowded.view.infos["digits_mlp"], "", bars)
    assert -10.0 < axis.limits[0] <= -0.25 * 19.0  # a part of it is seen, though it is alone on its side of zero
    assert axis.limits[1] > 19.0


def test_learning_curves_of_many_arms_are_those_of_the_leading_ones(crowded, crowded_looks):
    sheet = training_figures.training_losses(crowded, crowded_looks)
    assert (len(sheet.panels), sheet.columns) == (len(RATES), len(RATES))
    assert {len(panel.curves) for panel in sheet.panels} == {8}
    assert len({crowded_looks[name].color for name in crowded.leading}) == 8
    assert sheet.note.startswith(f"Lines: medians; bands: the range over seeds. Shown are 8 of {len(MANY)} arms: ")
    assert "evaluations.parquet" in sheet.note


def test_a_network_far_out_has_a_mark_at_the_edge_and_is_counted(looks):
    result = paper_cases.full_result()
    runs = [
        (plan, dataclasses.replace(run, result=dataclasses.replace(run.result, generalisation_gap=4e4)))
        if run.result.solution is not None and plan.config.seed == 4
        else (plan, run)
        for plan, run in result.runs
    ]
    (scatter,) = solution_figures.generalisation(
        analyse(dataclasses.replace(result, runs=tuple(runs))), looks, "sharpness"
    )
    (cloud,) = scatter.clouds
    assert scatter.title == "Digits MLP, 1 of 5 out of view"
    assert scatter.y.limits[1] < 1.0
    assert cloud.marks == [(4.0, scatter.y.limits[1], "up")]
    assert solution_figures.note([scatter])


def test_the_share_that_reached_the_target_ends_at_the_share_of_runs_that_did(numbers, looks):
    gpt = comparison_figures.times_to_target(numbers, looks).panels[1]
    assert [curve.y[-1] for curve in gpt.curves] == [1.0, 1.0, 1.0]
    assert [curve.x[1] for curve in gpt.curves] == [5.0, 6.0, 5.0]


def test_arms_differ_without_colour(looks):
    assert len({(look.dash, look.marker) for look in looks.values()}) == len(looks)
    assert looks["dcao"].dash == "-"
    assert looks["dcao"].color == looks["adamw"].color  # the same optimizer underneath
    assert looks["dcao"].width > looks["adamw"].width
