import math

import numpy as np
import pytest

import paper_cases
from dcao_lab.paper import comparison_figures, training_figures
from dcao_lab.paper.curves import band, density_grid
from dcao_lab.paper.style import styles
from dcao_lab.report.analysis.solutions import smoothed_density
from dcao_lab.report.numbers import analyse

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
    (panel,) = training_figures.raw_stability(numbers, looks)
    assert panel.edge == 2.0
    assert panel.curves[0].y == pytest.approx([0.1 * (10.0 + step) for step in range(12)])


def test_a_diverged_start_is_a_cross_and_not_a_gap_alone(numbers, looks):
    (panel,) = comparison_figures.robustness(numbers, looks, "lr")
    bare = panel.curves[0]
    assert bare.lost == [0.1]
    assert bare.y[0] == 0.9
    assert math.isnan(bare.y[1])
    assert panel.worst == "bottom"


def test_a_gain_is_to_the_right_whichever_way_the_metric_goes(numbers, looks):
    gpt = comparison_figures.gain_charts(numbers, looks)[1]
    assert gpt.bars[0].value == 2.0  # two less of a perplexity
    assert (gpt.bars[0].low, gpt.bars[0].high) == (2.0, 2.0)


def test_the_share_that_reached_the_target_ends_at_the_share_of_runs_that_did(numbers, looks):
    gpt = comparison_figures.times_to_target(numbers, looks)[1]
    assert [curve.y[-1] for curve in gpt.curves] == [1.0, 1.0, 1.0]
    assert [curve.x[1] for curve in gpt.curves] == [5.0, 6.0, 5.0]


def test_arms_differ_without_colour(looks):
    assert len({(look.dash, look.marker) for look in looks.values()}) == len(looks)
    assert looks["dcao"].dash == "-"
    assert looks["dcao"].color == looks["adamw"].color  # the same optimizer underneath
    assert looks["dcao"].width > looks["adamw"].width
