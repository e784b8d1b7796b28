"""When to probe, and the share that a budget keeps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcao import schedules


def test_every_starts_before_the_first_step():
    assert [step for step in range(25) if schedules.Every(10)(step, 1e9)] == [0, 10, 20]


@given(st.floats(0.005, 0.9), st.floats(0.5, 60.0), st.integers(1, 600))
def test_overhead_keeps_its_share_once_the_first_probe_is_paid_for_and_uses_it(share, cost, num_steps):
    schedule = schedules.Overhead(share)
    spent, paid = 0.0, False
    for step in range(num_steps):
        if schedule(step, spent + cost):
            spent += cost
            paid = paid or step > 0
        # of all evaluations until this step's own
        if paid:
            assert spent <= share * (step + spent) * (1.0 + 1e-12)
    if cost * (1.0 - share) >= share:  # a probe at every step would cost too much: nothing may be left for one more
        assert spent + cost > share * (num_steps - 1 + spent + cost) * (1.0 - 1e-12)


def test_overhead_probes_before_the_first_step_whatever_it_costs():
    assert schedules.Overhead(0.01)(0, 1e9)
    assert not schedules.Overhead(0.01)(1, 1.0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"share must be between 0 and 1, such as 0.05, got"):
        schedules.Overhead(share)


@pytest.mark.parametrize("interval", [0, -3])
def test_an_interval_below_one_step_is_refused(interval):
    with pytest.raises(ValueError, match=rf"every must be at least 1 step, got {interval}; to never adapt"):
        schedules.Every(interval)


@pytest.mark.parametrize("interval", [2.0, True, "10"])
def test_an_interval_that_counts_no_steps_is_refused(interval):
    with pytest.raises(TypeError, match=r"every must be a whole number of steps, got"):
        schedules.Every(interval)


def test_a_run_of_any_known_length_is_probed_for_a_tenth_of_its_evaluations_at_most():
    for num_steps in [*range(9, 400), 500, 1000, 1999]:
        schedule, spent = schedules.usual(num_steps), 0.0
        for step in range(num_steps):
            spent += schedule(step, spent + 1.0)
        assert spent <= 0.1 * (num_steps + spent) * (1.0 + 1e-12), num_steps


def test_probes_of_a_run_of_unknown_length_are_those_of_a_long_one():
    assert schedules.usual() == schedules.usual(10_000) == schedules.Thinning()
