"""The limits of the rise, on numbers whose answer is known."""

import math

import pytest

from dcao.finding.search import RisePoint, Search

GROWTH = 1.1


def rise(search, *, s=0.0, length=0.0, agreement=0.5, loss=lambda lr: 1.0, first=1e-3, num_steps=200):
    """A rise in which s and the relative step are these multiples of lr; returns the number of steps."""
    lr = first
    for step in range(num_steps):
        if search.is_over:
            return step
        search.note(RisePoint(lr=lr, loss=loss(lr), s=s * lr, relative_step=length * lr, agreement=agreement))
        lr *= GROWTH
    return num_steps


def first_above(limit):
    """What a rise can say of a limit: its first lr above, at most one step too far."""
    return pytest.approx(limit * math.sqrt(GROWTH), rel=math.sqrt(GROWTH) - 1.0)


@pytest.mark.parametrize("agreement", [0.2, 0.5, 1.0])
def test_s_is_limited_to_ten_times_the_agreement(agreement):
    search = Search()
    rise(search, s=100.0, agreement=agreement)
    assert search.found.lr == first_above(10.0 * agreement / 100.0)
    assert search.found.reason.startswith("s reached 10 times the agreement")
    assert search.found.s == pytest.approx(100.0 * search.found.lr)
    assert search.found.agreement == pytest.approx(agreement)


def test_an_agreement_below_noise_counts_as_the_least_that_can_be_told():
    search = Search()
    rise(search, s=10.0, agreement=-0.3)
    assert search.found.lr == first_above(10.0 * 0.1 / 10.0)


def test_the_relative_step_is_limited_where_s_says_nothing():
    search = Search()
    rise(search, s=-5.0, length=2.0)
    assert search.found.lr == first_above(0.12 / 2.0)
    assert search.found.reason.startswith("the relative step reached 0.12")


def test_one_outlier_of_s_does_not_end_the_search():
    search = Search()
    for step in range(20):
        s = 1e6 if step == 10 else 1e-3
        search.note(RisePoint(lr=GROWTH**step, loss=1.0, s=s, relative_step=1e-3, agreement=0.5))
    assert search.found is None


def test_a_loss_that_turns_up_first_gives_half_of_the_lr_at_its_lowest():
    search = Search()
    num_steps = rise(search, s=1e-6, length=1e-6, loss=lambda lr: (math.log(lr) + 4.0) ** 2)
    assert num_steps < 200
    # The lowest mean over 8 steps is around exp(-4), and its lr is that of a step: off by a step and a half at most.
    assert search.found.lr == pytest.approx(0.5 * math.exp(-4.0), rel=GROWTH**1.5 - 1.0)
    assert search.found.reason.startswith("the mean loss turned up before a limit was met")


def test_the_rise_goes_on_to_twice_the_lr_found_for_the_plot():
    search = Search()
    rise(search, s=100.0, agreement=1.0)
    assert search.curve[-1].lr >= 2.0 * search.found.lr > search.curve[-2].lr


def test_steps_that_could_not_be_measured_are_left_out():
    search = Search()
    for step in range(60):
        lr = 1e-3 * GROWTH**step
        blind = step % 2 == 0
        s, length = (None, None) if blind else (100.0 * lr, 0.1 * lr)
        search.note(RisePoint(lr=lr, loss=1.0, s=s, relative_step=length, agreement=None if blind else 0.5))
    assert search.found.lr == first_above(0.05)


def test_a_loss_that_is_not_finite_ends_the_search_without_a_number():
    search = Search()
    search.note(RisePoint(lr=1e-5, loss=math.nan, s=None, relative_step=None, agreement=None))
    assert search.is_over
    assert search.found is None
    assert "the loss is nan at lr=1e-05, after 0 steps" in search.why_nothing(ran_dry=False)
