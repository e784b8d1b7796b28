import math

import numpy as np
import pytest
from scipy import stats

from dcao_lab.errors import LabError
from dcao_lab.statistics import rank_arms
from helpers.binomial import within_binomial_limits

# Demšar 2006, table 6: AUC of four decision trees on 14 data sets. In the one row with a fourth digit the printed
# values are equal and the ranks are not: his mean ranks need 2 and 3 there.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def table(rows):
    """Arms ``0``, ``1``, ... from one row a workload."""
    return {str(arm): {str(i): float(row[arm]) for i, row in enumerate(rows)} for arm in range(len(rows[0]))}


def test_the_example_of_demsar():
    found = rank_arms(table(DEMSAR), higher_is_better=True)
    # the paper: mean ranks 3.143, 2.000, 2.893, 1.964
    assert found.arms == ("3", "1", "2", "0")
    assert found.mean_ranks == pytest.approx((1.964, 2.000, 2.893, 3.143), abs=5e-4)
    # and critical difference 2.569 sqrt(4 x 5 / (6 x 14)) = 1.25, which 3.143 - 1.964 = 1.179 does not reach
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert found.groups == (("3", "1", "2", "0"),)
    # Rank sums 44, 28, 40.5, 27.5: 12 / (14 x 4 x 5) x 5116.5 - 3 x 14 x 5 = 9.28, as in the paper. scipy corrects for
    # ties: three pairs (2^3 - 2 = 6 each) and a row of four (4^3 - 4 = 60): 1 - 78 / (14 x 60) = 0.907; 9.28 / 0.907
    # = 10.23.
    assert found.p_value == pytest.approx(stats.chi2.sf(9.2786 / (1 - 78 / 840), df=3), rel=1e-4)


def test_hand_worked_friedman():
    # 3 arms in the same order on all of 4 workloads: rank sums 4, 8, 12.
    # 12 / (4 x 3 x 4) x (16 + 64 + 144) - 3 x 4 x 4 = 56 - 48 = 8; p = exp(-8 / 2), chi-squared of 2 degrees.
    found = rank_arms(table([[1, 2, 3]] * 4), higher_is_better=False)
    assert found.mean_ranks == (1.0, 2.0, 3.0)
    assert found.p_value == pytest.approx(math.exp(-4))


# Demšar 2006, table 5(a): q at 0.05 and 0.10
@pytest.mark.parametrize(
    ("num_arms", "q_05", "q_10"),
    [(2, 1.960, 1.645), (3, 2.343, 2.052), (4, 2.569, 2.291), (5, 2.728, 2.459), (8, 3.031, 2.780), (10, 3.164, 2.920)],
)
def test_critical_values_are_the_published_ones(num_arms, q_05, q_10):
    rows = [list(range(num_arms))] * 6
    unit = math.sqrt(num_arms * (num_arms + 1) / 36)
    for confidence, q in ((0.95, q_05), (0.9, q_10)):
        found = rank_arms(table(rows), higher_is_better=True, confidence=confidence)
        assert found.critical_difference / unit == pytest.approx(q, abs=1.1e-3)  # printed to three digits, some cut


def test_groups_are_the_largest_sets_within_the_critical_difference():
    # 5 arms always in one order, 30 workloads: mean ranks 1 2 3 4 5, difference 2.728 sqrt(30 / 180) = 1.11:
    # neighbours do not differ, others do.
    found = rank_arms(table([[1, 2, 3, 4, 5]] * 30), higher_is_better=False)
    assert found.groups == (("0", "1"), ("1", "2"), ("2", "3"), ("3", "4"))
    # 60 workloads: 0.79, nobody is alike; 8: 2.16, threes
    assert rank_arms(table([[1, 2, 3, 4, 5]] * 60), higher_is_better=False).groups == ()
    threes = rank_arms(table([[1, 2, 3, 4, 5]] * 8), higher_is_better=False).groups
    assert threes == (("0", "1", "2"), ("1", "2", "3"), ("2", "3", "4"))


def test_false_positive_rates_of_friedman_and_nemenyi():
    # Both are asymptotic in the workloads; with 40 their 5 % is off by less than the limits (+- 2.3 %).
    rng = np.random.default_rng(70)
    friedman = nemenyi = 0
    for rows in rng.normal(size=(1000, 40, 4)):
        found = rank_arms(table(rows), higher_is_better=True)
        friedman += found.p_value <= 0.05
        nemenyi += found.mean_ranks[-1] - found.mean_ranks[0] > found.critical_difference
    assert within_binomial_limits(friedman, 1000, 0.05)
    assert within_binomial_limits(nemenyi, 1000, 0.05)


def test_any_increasing_change_of_a_workloads_scores_changes_nothing():
    found = rank_arms(table(DEMSAR), higher_is_better=True)
    assert rank_arms(table(np.exp(5 * DEMSAR)), higher_is_better=True) == found
    assert rank_arms(table(DEMSAR[::-1]), higher_is_better=True) == found
    assert rank_arms(table(-DEMSAR), higher_is_better=False) == found


def test_failure_ranks_last_and_two_failures_tie():
    found = rank_arms({"a": {"x": math.inf}, "b": {"x": 1.0}, "c": {"x": math.inf}}, higher_is_better=False)
    assert dict(zip(found.arms, found.mean_ranks, strict=True)) == {"b": 1.0, "a": 2.5, "c": 2.5}


def test_what_cannot_be_tested_is_a_status():
    two = rank_arms(table([[1, 2]] * 5), higher_is_better=True)
    assert (two.p_value, two.status) == (None, "Friedman's test needs three arms: compare two by the signed-rank test")
    tied = rank_arms(table([[1, 1, 1]] * 5), higher_is_better=True)
    assert (tied.p_value, tied.status, tied.mean_ranks) == (None, "all arms tie on every workload", (2.0, 2.0, 2.0))
    assert rank_arms(table([[1, 2, 3]]), higher_is_better=True).status == "ok"


def test_wrong_scores_are_refused():
    with pytest.raises(LabError, match="at least two arms, got a alone; add one"):
        rank_arms({"a": {"x": 1.0}}, higher_is_better=True)
    with pytest.raises(LabError, match="must not be nan, but 'b' has it on 'x'; rank a failure by inf"):
        rank_arms({"a": {"x": 1.0}, "b": {"x": math.nan}}, higher_is_better=True)
    with pytest.raises(LabError, match="every arm must have every workload, but 'b' lacks y; finish its runs"):
        rank_arms({"a": {"x": 1.0, "y": 1.0}, "b": {"x": 1.0}}, higher_is_better=True)
    with pytest.raises(LabError, match=r"confidence must be in \(0, 1\), got 0"):
        rank_arms({"a": {"x": 1.0}, "b": {"x": 1.0}}, higher_is_better=True, confidence=0)
