"""What of a cloud of points is in view."""

import pytest

from dcao_lab.report.analysis.window import extent, window

CLOUD = [(1.0 + 0.1 * i, 0.1 * (i + 1)) for i in range(20)]


@pytest.mark.parametrize(
    ("far", "direction", "edge"),
    [((2.0, 4e4), "up", (2.0, None)), ((2.0, 1e-9), "down", (2.0, None)), ((1e-12, 1.0), "left", (None, 1.0)),
     ((1e9, 1.0), "right", (None, 1.0))],
)  # fmt: skip
def test_one_point_far_out_is_at_the_edge_and_the_others_stay(far, direction, edge):
    found = window([*CLOUD, far])
    assert found.outside([*CLOUD, far]) == [far]
    assert found.direction(far) == direction
    ends = {"up": found.y.high, "down": found.y.low, "left": found.x.low, "right": found.x.high}
    assert found.edge(far) == tuple(ends[direction] if value is None else value for value in edge)
    assert found.y.high < 10 * max(y for _, y in CLOUD)


def test_what_is_not_above_zero_is_below_a_logarithmic_axis():
    found = window([*CLOUD, (2.0, -59.0)])
    assert found.y.is_log
    assert found.direction((2.0, -59.0)) == "down"


def test_an_axis_is_linear_where_many_values_are_not_above_zero():
    found = window([*CLOUD, *((x, -y) for x, y in CLOUD)])
    assert not found.y.is_log
    assert found.outside([(x, -y) for x, y in CLOUD]) == []


def test_of_a_share_everything_is_in_view():
    points = [*((x, 0.95) for x, _ in CLOUD), (2.0, 0.1)]
    assert window(points, y_is_share=True).outside(points) == []


@pytest.mark.parametrize("is_log", [True, False])
@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0]])
def test_equal_values_have_an_axis_too(values, is_log):
    found = extent(values, is_log=is_log)
    assert found.low < 3.0 < found.high
