import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from dcao_lab.errors import LabError
from dcao_lab.statistics import TargetTimes, log_rank, median_time_to_target
from helpers.binomial import within_binomial_limits


def runs(arm, text):
    """Runs written as survival analysis does: ``9+`` was censored at 9."""
    marks = text.split()
    return TargetTimes(
        arm=arm,
        times=tuple(float(mark.rstrip("+")) for mark in marks),
        reached=tuple(not mark.endswith("+") for mark in marks),
    )


# Freireich et al. 1963, weeks to relapse: the textbook example of both methods
DRUG = runs("6-MP", "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+")
PLACEBO = runs("placebo", "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23")


def exponential(rng, arm, n, *, scale=1.0, budget=math.inf):
    times = rng.exponential(scale, size=n)
    return TargetTimes(arm=arm, times=tuple(np.minimum(times, budget)), reached=tuple(bool(t < budget) for t in times))


# Kaplan-Meier -----------------------------------------------------------------------------------------------------


def test_hand_worked_median():
    # S(2) = 4/5; at 4 three are at risk: 4/5 x 2/3 = 8/15; at 5 two: 8/15 x 1/2 = 4/15 <= 1/2. Median 5.
    found = median_time_to_target(runs("a", "2 3+ 4 5 6+"))
    assert (found.median, found.num_runs, found.num_reached) == (5.0, 5, 3)


def test_leaving_censored_runs_out_would_flatter():
    every = median_time_to_target(runs("a", "1 2 3 9+ 9+"))
    # S: 4/5, 3/5, 2/5. Without the two that never got there it would be 2.
    assert every.median == 3.0


def test_a_median_at_exactly_one_half_counts():
    # S(1) = 3/4, S(2) = 1/2
    assert median_time_to_target(runs("a", "1 2 3 4")).median == 2.0


def test_textbook_medians_and_intervals():
    # Kalbfleisch and Prentice; R's survfit(conf.type = "log-log"): 23 (13, NA) and 8 (4, 11)
    drug, placebo = median_time_to_target(DRUG), median_time_to_target(PLACEBO)
    assert (drug.median, drug.low, drug.high) == (23.0, 13.0, math.inf)
    assert (placebo.median, placebo.low, placebo.high) == (8.0, 4.0, 11.0)
    assert (drug.status, placebo.status) == ("too few runs for an upper bound", "ok")


@pytest.mark.parametrize("seed", range(20))
def test_the_median_agrees_with_statsmodels(seed):
    sample = exponential(np.random.default_rng(seed), "a", 25, budget=1.2)
    # theirs differs where S is exactly 1/2, which k/25 never is (all are censored at the end)
    expected = SurvfuncRight(np.array(sample.times), np.array(sample.reached, dtype=int)).quantile(0.5)
    assert median_time_to_target(sample).median == (expected if not math.isnan(expected) else math.inf)


def exact_median_coverage(n, confidence=0.95):
    """With censoring after the median m alone, S(m) = 1 - K/n, K ~ Binomial(n, 1/2), and Greenwood is S (1-S) / n.

    The interval has m when the log-log interval of S(m) has 1/2: |g(S) - g(1/2)| <= z se, g(S) = log(-log S), and by
    the delta method se = sqrt(S (1 - S) / n) / (S |log S|). At K = 0 there is no lower end, at K = n no upper.
    """
    survival = 1 - np.arange(1, n) / n
    error = np.sqrt((1 - survival) / (n * survival)) / np.abs(np.log(survival))
    away = np.abs(np.log(-np.log(survival)) - math.log(math.log(2)))
    return stats.binom.pmf(np.arange(1, n), n, 0.5)[away <= stats.norm.ppf(0.5 + confidence / 2) * error].sum()


@pytest.mark.parametrize("n", [10, 40])
def test_the_interval_covers_the_true_median_at_its_exact_rate(n):
    expected = exact_median_coverage(n)
    assert expected == pytest.approx(0.95, abs=0.03)  # discrete, so not nominal to the digit
    rng = np.random.default_rng(50 + n)
    hits = 0
    for _ in range(800):
        found = median_time_to_target(exponential(rng, "a", n, budget=1.2))  # 30 % are censored
        hits += found.low <= math.log(2) <= found.high
    assert within_binomial_limits(hits, 800, expected)


def test_time_has_no_unit_and_runs_have_no_order():
    doubled = TargetTimes(arm="6-MP", times=tuple(2 * t for t in DRUG.times[::-1]), reached=DRUG.reached[::-1])
    found = median_time_to_target(doubled)
    assert (found.median, found.low, found.high) == (46.0, 26.0, math.inf)


STATUS_CASES = {
    "nobody": (runs("a", "9+ 9+"), math.inf, "no run reached the target"),
    "too few": (runs("a", "1 9+ 9+"), math.inf, "fewer than half are estimated to reach the target"),
    "one": (runs("a", "4"), 4.0, "too few runs for an upper bound"),
    "one, censored": (runs("a", "4+"), math.inf, "no run reached the target"),
    "all at once": (runs("a", "4 4 4"), 4.0, "too few runs for an upper bound"),
}


@pytest.mark.parametrize("name", STATUS_CASES)
def test_a_median_says_what_it_could_not_estimate(name):
    sample, median, status = STATUS_CASES[name]
    found = median_time_to_target(sample)
    assert (found.median, found.high, found.status) == (median, math.inf, status)
    assert found.low <= found.median


# Log-rank ---------------------------------------------------------------------------------------------------------


def test_hand_worked_log_rank():
    # a reaches at 1, 2; b at 3, 4. Expected for a: 2/4 at time 1, 1/3 at 2, 0 after: 5/6, observed 2.
    # Variance 1/4 + 2/9 = 17/36. z = (7/6) / sqrt(17/36) = 7 / sqrt(17).
    found = log_rank(runs("a", "1 2"), runs("b", "3 4"))
    assert found.statistic == pytest.approx(7 / math.sqrt(17))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(7 / math.sqrt(17)))


def test_textbook_log_rank():
    found = log_rank(PLACEBO, DRUG)  # chi-squared 16.79 in every textbook
    assert found.statistic**2 == pytest.approx(16.79, abs=0.005)
    assert found.statistic > 0  # the first arm, placebo, gets there faster


@pytest.mark.parametrize("seed", range(10))
def test_log_rank_agrees_with_statsmodels(seed):
    rng = np.random.default_rng(seed)
    first, second = exponential(rng, "a", 12, budget=1.0), exponential(rng, "b", 9, scale=2.0, budget=1.0)
    group = np.repeat([0, 1], [12, 9])
    squared, p_value = survdiff(np.array(first.times + second.times), np.array(first.reached + second.reached), group)
    found = log_rank(first, second)
    assert found.statistic**2 == pytest.approx(squared)
    assert found.p_value == pytest.approx(p_value)


def test_false_positive_rate_of_log_rank_with_censoring():
    # z is normal up to O(1/sqrt(n)); 60 a side with 40 % censored moves the 5 % by less than the limits (+-2.3 %)
    rng = np.random.default_rng(60)
    samples = ((exponential(rng, "a", 60, budget=0.9), exponential(rng, "b", 60, budget=0.9)) for _ in range(1000))
    hits = sum(log_rank(*pair).p_value <= 0.05 for pair in samples)
    assert within_binomial_limits(hits, 1000, 0.05)


def test_power_of_log_rank_is_schoenfelds():
    # Schoenfeld 1981: z ~ N(sqrt(d/4) log(hazard ratio), 1), d events of equal groups. Ratio 1.5, no censoring,
    # d = 120: mean 5.48 x 0.405 = 2.22, power Phi(2.22 - 1.96) = 0.60. The formula is of first order: +- 0.03.
    rng = np.random.default_rng(61)
    samples = ((exponential(rng, "a", 60), exponential(rng, "b", 60, scale=1.5)) for _ in range(500))
    hits = sum(log_rank(*pair).p_value <= 0.05 for pair in samples)
    power = stats.norm.cdf(math.sqrt(30) * math.log(1.5) - stats.norm.ppf(0.975))
    assert any(within_binomial_limits(hits, 500, power + shift) for shift in (-0.03, 0.0, 0.03))


def test_swapping_arms_changes_the_sign_and_monotone_time_nothing():
    there, back = log_rank(DRUG, PLACEBO), log_rank(PLACEBO, DRUG)
    assert back.statistic == pytest.approx(-there.statistic)
    assert back.p_value == pytest.approx(there.p_value)
    squared = [
        TargetTimes(arm=one.arm, times=tuple(t**2 for t in one.times), reached=one.reached) for one in (DRUG, PLACEBO)
    ]
    assert log_rank(*squared) == there


def test_there_is_no_test_where_nobody_or_everybody_at_once_arrived():
    nobody = log_rank(runs("a", "9+ 9+"), runs("b", "9+"))
    assert (nobody.p_value, nobody.status) == (None, "no run of either arm reached the target")
    at_once = log_rank(runs("a", "5 5"), runs("b", "5 5"))
    assert (at_once.p_value, at_once.status[:34]) == (None, "all runs still at risk reached the")


def test_one_arm_that_never_arrives_is_compared_all_the_same():
    found = log_rank(runs("a", "1 2 3 4 5 6 7 8"), runs("b", "9+ " * 8))
    assert found.p_value < 0.001


# Wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [0.0, -2.0, math.nan, math.inf])
def test_what_is_no_time_is_refused(time):
    with pytest.raises(LabError, match=rf"positive and finite, got {time} for 'a'; a run that missed the target has"):
        TargetTimes(arm="a", times=(time,), reached=(True,))


def test_wrong_runs_are_refused():
    with pytest.raises(LabError, match="must be equally long, got 1 and 2 for 'a'; give one of each for every run"):
        TargetTimes(arm="a", times=(1.0,), reached=(True, False))
    with pytest.raises(LabError, match="at least one run, got none for 'a'; leave the arm out"):
        TargetTimes(arm="a", times=(), reached=())
    with pytest.raises(LabError, match="two arms must have different names, got 'a' twice; name what differs"):
        log_rank(runs("a", "1"), runs("a", "2"))
    with pytest.raises(LabError, match=r"confidence must be in \(0, 1\), got 1.0"):
        median_time_to_target(runs("a", "1"), confidence=1.0)
