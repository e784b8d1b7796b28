"""The length that a step is measured against, by hand and in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn, optim

from dcao import DCAO
from dcao.blocks import blocks
from dcao.probing.lengths import MOST_EVALUATIONS, OUTLIER, moving_length, natural_length
from dcao.sums import joint_norm


def test_where_all_weights_move_it_is_the_length_of_all_to_the_last_bit():
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(40, 30, generator=generator), torch.randn(30, generator=generator)]
    assert moving_length(params, blocks([torch.ones_like(p) for p in params])) == joint_norm(params)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_entries_that_do_not_move_do_not_count(dtype):
    table, other = torch.full((5, 2), 100.0, dtype=dtype), torch.tensor([3.0, 500.0, 4.0], dtype=dtype)
    displacement = [torch.zeros(5, 2), torch.tensor([-1e-6, 0.0, 1e-6])]
    assert moving_length([table, other], blocks(displacement)) == 5.0
    displacement[0][2] = 1.0
    assert moving_length([table, other], blocks(displacement)) == pytest.approx(
        math.hypot(5.0, math.sqrt(2.0) * 100.0), rel=1e-6
    )


def test_nothing_that_moves_has_the_length_zero():
    assert moving_length([torch.ones(3)], [torch.zeros(3)]) == 0.0


@pytest.mark.parametrize("ratio", [1.0, 50.0, OUTLIER])
def test_a_parameter_a_hundred_times_larger_than_the_others_counts_in_full(ratio):
    # LayerNorm's weights are 50 times as large as matrices of 0.02
    params = [torch.full((90,), 0.5), torch.full((9,), 0.5 * ratio)]
    expected = 0.5 * math.sqrt(90.0 + 9.0 * ratio**2)
    assert moving_length(params, blocks([torch.ones(90), torch.ones(9)])) == pytest.approx(
        expected, rel=1e-6
    )  # float32


@pytest.mark.parametrize("value", [1e3, 1e4, 1e6])
def test_one_far_larger_hardly_counts(value):
    params = [torch.full((300,), 0.1), torch.tensor([value])]
    # The bias counts as 10 * 10 / value: at 1e3 that is 0.1, beside sqrt(3) it is 0.2 % of the length.
    assert moving_length(params, blocks([torch.ones(300), torch.ones(1)])) == pytest.approx(math.sqrt(3.0), rel=2e-3)


def test_what_counts_is_continuous_where_a_parameter_becomes_too_large():
    ones = [torch.ones(10, dtype=torch.float64), torch.ones(1, dtype=torch.float64)]
    below, above = (
        moving_length([ones[0], OUTLIER * (1.0 + excess) * ones[1]], blocks(ones)) for excess in (-1e-9, 1e-9)
    )
    assert below == pytest.approx(above, rel=1e-8)


def test_a_bias_beside_weights_that_are_all_zero_has_no_say():
    assert moving_length([torch.zeros(20), torch.tensor([1e4])], blocks([torch.ones(20), torch.ones(1)])) == 0.0


# Slopes along a line, over the slope at its beginning, and the longest step that does not raise the loss, from the
# definition: twice the way to where the slope would be gone, from a change of 10 to 70 % of it.
CURVES = [
    ("quadratic", lambda e: 1.0 - e / 3.0, 6.0, 1e-9),
    ("far away", lambda e: 1.0 - e / 3e6, 6e6, 1e-9),
    ("close by", lambda e: 1.0 - e / 3e-7, 6e-7, 1e-9),
    # 1 - tanh(e / 2): the slope of a logistic loss, half of it gone at 1.1; the secant is 2 to 3.3 long
    ("levels off", lambda e: 1.0 - math.tanh(e / 2.0), 4.5, 0.3),
    # The slope jumps between two values that are both outside 10 to 70 %: as exact as the search can halve
    ("hinge", lambda e: 1.0 if e < 5.0 else 0.1, 10.0, 0.1),
    ("not finite far away", lambda e: 1.0 - e / 3.0 if e < 40.0 else math.nan, 6.0, 1e-9),
    # Grows in proportion up to 7 and no further: between a third of that and three times that
    ("saddle", lambda e: 1.0 + 100.0 * min(e, 7.0), 7.0, 2.0),
]


@pytest.mark.parametrize("start", [1e-8, 3e-4, 1e3])
@pytest.mark.parametrize(("name", "slope", "length", "tolerance"), CURVES, ids=[row[0] for row in CURVES])
def test_the_natural_length_is_found_from_anywhere(name, slope, length, tolerance, start):
    assert natural_length(slope, start) == pytest.approx(length, rel=tolerance)


@pytest.mark.parametrize("value", [1.0, math.nan, -5.0])
def test_a_slope_that_changes_nowhere_or_everywhere_has_none(value):
    seen = []
    assert natural_length(lambda e: seen.append(e) or value, 3e-4) is None
    assert 0 < len(seen) <= MOST_EVALUATIONS


def zeros_on_a_quadratic(curvature: float, unit: float, lr: float) -> DCAO:
    weight = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = DCAO(optim.SGD([weight], lr=lr))
    optimizer.minimize(lambda: unit * 0.5 * curvature * (weight - 2.0).square().sum())
    return optimizer


@pytest.mark.parametrize("lr", [1e-7, 10.0])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("curvature", [1e-2, 1.0, 1e4])
def test_from_zero_the_step_is_measured_against_the_way_across_the_valley(curvature, unit, lr):
    # From 0 the minimum is 4 away, in any unit, so the valley is 8 wide. lr * unit * curvature * 4 = 0.01 * 8; the
    # length and l are rounded to one of 16 values an octave, 1 / 32 at most each, and differences err by 1e-7.
    optimizer = zeros_on_a_quadratic(curvature, unit, lr)
    assert optimizer.loop.probe.memory.natural_length == 8.0
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02 / (unit * curvature), rel=1 / 32 + 1e-6)
    assert optimizer.last_estimate.relative_step == pytest.approx(lr * unit * curvature / 2.0, rel=1e-12)
