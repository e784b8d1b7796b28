import math

import numpy as np
import pytest
from scipy import stats

from dcao_lab.statistics import bootstrap_interval
from helpers.binomial import within_binomial_limits


def covers(interval, truth):
    return interval.low <= truth <= interval.high


def normal_coverage(n):
    """Of +- 1.96 s_n / sqrt(n) with the plug-in s_n (divided by n, as a bootstrap's is), for normal values.

    |mean| < 1.96 s_n / sqrt(n) is |t| < 1.96 s_n / s = 1.96 sqrt((n - 1) / n), t Student's on n - 1 degrees.
    """
    return 1 - 2 * stats.t.sf(stats.norm.ppf(0.975) * math.sqrt((n - 1) / n), n - 1)


@pytest.mark.parametrize("n", [5, 10, 50])
def test_the_interval_of_a_mean_covers_as_often_as_theory_says(n):
    # 0.85, 0.90, 0.94: the warning in the status and in the docstring is this
    rng = np.random.default_rng(10 + n)
    draws = 0.7 + rng.normal(size=(800, n))
    hits = sum(covers(bootstrap_interval([x], np.mean, num_resamples=999, generator=rng), 0.7) for x in draws)
    assert within_binomial_limits(hits, len(draws), normal_coverage(n))


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_the_interval_of_a_mean_covers_at_its_nominal_rate_with_100_values(confidence):
    # bias of the coverage at n = 100 is below 0.005, a fifth of the limits' half width (3.3 sqrt(0.95 0.05 / 800))
    rng = np.random.default_rng(20)
    draws = 0.7 + rng.normal(size=(800, 100))
    options = {"num_resamples": 999, "confidence": confidence, "generator": rng}
    hits = sum(covers(bootstrap_interval([x], np.mean, **options), 0.7) for x in draws)
    assert within_binomial_limits(hits, len(draws), confidence)


def test_the_interval_of_a_median_covers_at_its_nominal_rate():
    rng = np.random.default_rng(21)
    draws = rng.exponential(size=(500, 51))
    hits = sum(covers(bootstrap_interval([x], np.median, num_resamples=999, generator=rng), math.log(2)) for x in draws)
    assert within_binomial_limits(hits, len(draws), 0.95)


def test_with_many_values_it_is_the_normal_interval():
    x = np.random.default_rng(22).normal(size=4000)
    found = bootstrap_interval([x], np.mean)
    half = stats.norm.ppf(0.975) * x.std() / math.sqrt(len(x))
    # a quantile at 0.025 from 9999 resamples is off by sqrt(0.025 0.975 / 9999) / phi(1.96) = 0.027 deviations; x 4
    tolerance = 4 * 0.027 * half / 1.96
    assert found.low == pytest.approx(x.mean() - half, abs=tolerance)
    assert found.high == pytest.approx(x.mean() + half, abs=tolerance)
    assert found.status == "ok"


def test_the_interval_leans_towards_the_long_tail():
    x = np.random.default_rng(23).exponential(size=30)
    found = bootstrap_interval([x], np.mean)
    assert found.high - x.mean() > 1.1 * (x.mean() - found.low)


def test_strata_are_resampled_each_by_itself():
    # Two strata far apart, without spread inside: whatever is resampled, half the values are 0 and half are 1000.
    found = bootstrap_interval([np.zeros(20), np.full(20, 1000.0)], pooled_mean)
    assert (found.low, found.high) == (500.0, 500.0)


def pooled_mean(*samples, axis):
    return np.concatenate(samples, axis=axis).mean(axis=axis)


def test_a_higher_confidence_is_a_wider_interval():
    x = np.random.default_rng(24).normal(size=20)
    wide, narrow = (bootstrap_interval([x], np.mean, confidence=c) for c in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


STATUS_CASES = {
    "nothing": ([], "0 value: no interval"),
    "one": ([1.0], "1 value: no interval"),
    "constant": ([3.0] * 12, "the values do not vary"),
    "nine": (range(9), "fewer than 10 values: too narrow"),
    "ten": (range(10), "ok"),
}


@pytest.mark.parametrize("name", STATUS_CASES)
def test_the_status_says_how_far_to_trust_it(name):
    values, status = STATUS_CASES[name]
    assert bootstrap_interval([np.array(values, dtype=float)], np.mean).status == status


def test_a_median_among_ties_falls_back_and_says_so():
    # leaving any one out leaves the median at 0: the acceleration is 0/0
    found = bootstrap_interval([np.array([0.0] * 11 + [1.0])], np.median)
    assert (found.low, found.high) == (0.0, 0.0)
    assert found.status == "BCa is undefined among ties: percentile interval"


def test_the_order_of_values_changes_nothing():
    rng = np.random.default_rng(25)
    x = rng.normal(size=30)  # with 99 resamples the interval would tell one order from another
    expected = bootstrap_interval([x], np.mean, num_resamples=99)
    assert bootstrap_interval([rng.permutation(x)], np.mean, num_resamples=99) == expected
