import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dcao_lab.errors import LabError
from dcao_lab.statistics import compare
from helpers.binomial import within_binomial_limits

FAST = {"num_resamples": 99}  # where the interval is not what is tested


def by_seed(values):
    return dict(enumerate(map(float, values)))


def against_zero(values, **options):
    return compare(by_seed(values), by_seed(np.zeros(len(values))), **options)


# Hand-worked ------------------------------------------------------------------------------------------------------


def test_hand_worked_example():
    # differences 1, 2, 3, 4, -5, 6: ranks of |d| are 1 ... 6, R- = 5, R+ = 21 - 5 = 16.
    # p: subsets of {1..6} with sum <= 5, by sum 0..5: 1, 1, 1, 2, 2, 3 = 10 of 64; two-sided 20/64 = 0.3125.
    # rank-biserial: (16 - 5) / 21. Mean 11/6; sum of squares 91, variance (91 - 121/6) / 5 = 85/6.
    found = compare(by_seed([11, 12, 13, 14, 15, 16]), by_seed([10, 10, 10, 10, 20, 10]))
    assert found.num_pairs == 6
    assert found.difference == pytest.approx(11 / 6)
    assert found.p_value == pytest.approx(20 / 64)
    assert found.rank_biserial == pytest.approx(11 / 21)
    assert found.cohens_dz == pytest.approx((11 / 6) / math.sqrt(85 / 6))
    assert found.interval.low < 11 / 6 < found.interval.high
    assert found.test_status == "ok"
    assert found.p_holm is None


def test_the_median_is_the_center_on_request():
    # sorted -5, 1, 2, 3, 4, 6: (2 + 3) / 2
    assert against_zero([1, 2, 3, 4, -5, 6], center="median", **FAST).difference == 2.5


def test_zeros_are_dropped_and_ties_share_their_rank():
    # nonzero: 1, 1, -1, 2: ranks of |d| 2, 2, 2, 4; R+ = 8, R- = 2 of 10.
    found = against_zero([0, 1, 1, -1, 2, 0], **FAST)
    assert found.rank_biserial == pytest.approx((8 - 2) / 10)
    # R- over the 16 sign patterns: three ranks of 2, one of 4: <= 2 for no minus or one of the 2s: 4 patterns.
    # Two-sided 8/16.
    assert found.p_value == pytest.approx(8 / 16)


def test_differences_of_rounded_accuracies_tie():
    # 0.01, 0.01, -0.01; in floating point 0.91 - 0.90 is 0.010000000000000009 and 0.06 - 0.05 is 0.009999999999999995
    first, second = by_seed([0.91, 0.06, 0.05]), by_seed([0.90, 0.05, 0.06])
    assert len({abs(first[seed] - second[seed]) for seed in first}) > 1
    # as ties: ranks 2, 2, 2; (4 - 2) / 6. Without them 3, 1.5, 1.5 would give (4.5 - 1.5) / 6.
    assert compare(first, second, **FAST).rank_biserial == pytest.approx(1 / 3)


# Against a slow twin ----------------------------------------------------------------------------------------------


def enumerated_p_value(differences):
    """Share of all sign patterns with a rank sum at least as far from its mean."""
    ranks = stats.rankdata(np.abs(differences))
    signs = np.array(list(itertools.product([-1, 1], repeat=len(ranks))))
    return np.mean(np.abs(signs @ ranks) >= abs(np.sign(differences) @ ranks) - 1e-9)


@given(st.lists(st.integers(-6, 6).filter(bool), min_size=1, max_size=9))
def test_p_value_and_rank_biserial_agree_with_enumeration(differences):
    found = against_zero(differences, **FAST)
    assert found.p_value == pytest.approx(enumerated_p_value(differences))
    ranks = stats.rankdata(np.abs(differences))
    assert found.rank_biserial == pytest.approx(np.sign(differences) @ ranks / ranks.sum())


# Simulated nulls --------------------------------------------------------------------------------------------------


def test_false_positive_rate_under_the_null_is_the_exact_level():
    # n = 10. T = min(R+, R-) <= 8 has 25 subsets of {1..10} (partitions into distinct parts of 0..8:
    # 1, 1, 1, 2, 2, 3, 4, 5, 6) on either side: 50/1024 = 0.0488. T <= 9 adds 8 each: 66/1024 > 0.05.
    rng = np.random.default_rng(1)
    draws = rng.standard_t(3, size=(1000, 10))  # symmetric with heavy tails: only symmetry is assumed
    hits = sum(against_zero(row, **FAST).p_value <= 0.05 for row in draws)
    assert within_binomial_limits(hits, len(draws), 50 / 1024)


def test_the_rate_is_also_right_where_pairs_share_a_seed_effect():
    # A seed's luck, 10 times the noise, cancels in a pair.
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(600):
        luck = rng.normal(scale=10.0, size=10)
        first, second = luck + rng.normal(size=10), luck + rng.normal(size=10)
        hits += compare(by_seed(first), by_seed(second), **FAST).p_value <= 0.05
    assert within_binomial_limits(hits, 600, 50 / 1024)


def test_a_real_effect_is_found_at_its_exact_power():
    # All 6 differences positive is the only way to p <= 0.05 upwards (2/64), all negative downwards. With effect 1 and
    # deviation 1 each is positive with probability Phi(1) = 0.841.
    rng = np.random.default_rng(3)
    draws = 1.0 + rng.normal(size=(600, 6))
    hits = sum(against_zero(row, **FAST).p_value <= 0.05 for row in draws)
    up = stats.norm.cdf(1.0)
    assert within_binomial_limits(hits, len(draws), up**6 + (1 - up) ** 6)


# Invariances ------------------------------------------------------------------------------------------------------

VALUES = [0.3, -1.2, 2.5, 0.7, 1.9, -0.4, 3.1, 0.2, 1.1, 0.6]


@pytest.mark.parametrize("center", ["mean", "median"])
@given(order=st.permutations(range(len(VALUES))))
def test_the_order_of_seeds_changes_nothing(center, order):
    shuffled = [VALUES[i] for i in order]
    assert against_zero(shuffled, center=center, **FAST) == against_zero(VALUES, center=center, **FAST)


@pytest.mark.parametrize("exponent", [-600, -60, -3, 1, 40, 600])  # 2^600 has no square
def test_a_change_of_unit_scales_the_interval_and_leaves_test_and_effect_alone(exponent):
    scale = 2.0**exponent  # a power of two: exact
    plain, scaled = against_zero(VALUES), against_zero(np.multiply(VALUES, scale))
    assert scaled == replace(plain, difference=plain.difference * scale, interval=plain.interval.scaled(scale))


def test_swapping_the_arms_changes_the_sign_alone():
    there, back = against_zero(VALUES, **FAST), compare(by_seed([0] * 10), by_seed(VALUES), **FAST)
    assert back.difference == pytest.approx(-there.difference)
    assert back.rank_biserial == pytest.approx(-there.rank_biserial)
    assert back.cohens_dz == pytest.approx(-there.cohens_dz)
    assert back.p_value == there.p_value


def test_the_same_data_gives_the_same_interval_and_another_generator_another():
    assert against_zero(VALUES) == against_zero(VALUES)
    assert against_zero(VALUES).interval != against_zero(VALUES, generator=np.random.default_rng(9)).interval


def test_pairs_are_made_by_seed_not_by_position():
    found = compare({7: 1.0, 3: 2.0, 5: 9.0}, {3: 2.0, 4: 8.0, 7: 1.0}, **FAST)
    assert (found.num_pairs, found.left_out, found.difference) == (2, (4, 5), 0.0)


# Degenerate inputs ------------------------------------------------------------------------------------------------


def test_no_common_seed_is_a_status():
    found = compare({0: 1.0}, {1: 1.0})
    assert (found.num_pairs, found.difference, found.p_value, found.test_status) == (0, None, None, "no seed in common")
    assert found.left_out == (0, 1)


def test_one_pair_is_a_status():
    found = compare({0: 3.0}, {0: 1.0})
    assert (found.difference, found.p_value, found.rank_biserial, found.cohens_dz) == (2.0, 1.0, 1.0, None)
    assert found.interval.status == "1 value: no interval"
    assert found.test_status == "1 differing pair(s) cannot reach p <= 0.05: the smallest p is 1; 6 can"


def test_equal_arms_are_a_status():
    found = against_zero([0, 0, 0, 0])
    assert (found.difference, found.p_value, found.rank_biserial, found.cohens_dz) == (0.0, 1.0, 0.0, None)
    assert found.test_status == "all differences are zero"
    assert (found.interval.low, found.interval.high) == (0.0, 0.0)


def test_a_constant_difference_has_no_standardised_effect():
    found = compare(by_seed([0.3, 0.4, 0.5]), by_seed([0.2, 0.3, 0.4]))  # 0.1 up to rounding
    assert found.cohens_dz is None
    assert found.rank_biserial == 1.0


@pytest.mark.parametrize(("confidence", "needed"), [(0.95, 6), (0.9375, 5), (0.99, 8), (0.5, 2)])
def test_the_seeds_that_a_test_needs_are_the_fewest_that_can_reach_it(confidence, needed):
    # smallest p is 2^(1 - n): 2^-5 = 0.03125 <= 0.05; 2^-4 = 0.0625 = 1 - 0.9375; 2^-7 = 0.0078 <= 0.01; 2^-1
    enough = against_zero(range(1, needed + 1), confidence=confidence, **FAST)
    too_few = against_zero(range(1, needed), confidence=confidence, **FAST)
    assert enough.test_status == "ok"
    assert enough.p_value <= 1.0 - confidence < too_few.p_value
    assert too_few.test_status.endswith(f"; {needed} can")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_diverged_run_is_a_status_that_names_it(bad):
    found = compare({0: 1.0, 4: bad}, {0: 2.0, 4: bad}, names=("sgd", "adam"))
    assert found.difference is found.p_value is found.interval.low is None
    assert found.test_status == f"'sgd' has the score {bad} at seed 4: compare times to a target instead"


def test_wrong_arguments_are_refused():
    with pytest.raises(LabError, match="unknown center 'harmonic'; there are: mean, median"):
        compare({}, {}, center="harmonic")
    with pytest.raises(LabError, match=r"confidence must be in \(0, 1\), got 95; write 95 % as 0.95"):
        compare({}, {}, confidence=95)
    with pytest.raises(LabError, match="two arms must have different names, got 'sgd' twice; name what differs"):
        compare({}, {}, names=("sgd", "sgd"))
