import math

import numpy as np
import pytest

from dcao_lab.errors import LabError
from dcao_lab.statistics import interquartile_mean
from helpers.binomial import within_binomial_limits


def test_hand_worked_example():
    # pooled and sorted: 0 1 2 3 | 4 5 6 9 | 10 11 12 99 without the outer quarters of 12: 3 a side
    # -> 3 4 5 6 9 10, mean 37/6
    found = interquartile_mean({"a": [99, 0, 5, 3], "b": [2, 1, 4, 6], "c": [12, 10, 11, 9]})
    assert found.value == pytest.approx(37 / 6)
    assert found.num_scores == 12


def test_one_wild_run_in_eight_changes_nothing():
    calm = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}
    wild = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8e9]}
    assert interquartile_mean(wild).value == interquartile_mean(calm).value == 4.5  # of 3 4 5 6


def test_the_interval_covers_at_its_nominal_rate():
    # same symmetric distribution on three workloads: the truth is its center
    rng = np.random.default_rng(40)
    hits = 0
    for draws in 2.0 + rng.normal(size=(500, 3, 40)):
        scores = dict(zip("abc", draws, strict=True))
        interval = interquartile_mean(scores, num_resamples=999, generator=rng).interval
        hits += interval.low <= 2.0 <= interval.high
    assert within_binomial_limits(hits, 500, 0.95)


def test_differences_between_workloads_are_not_uncertainty():
    # Middle half of levels 0, 1, 2, 3 is the workloads 1 and 2 whatever is resampled: mean 1.5 to within the noise.
    noise = np.random.default_rng(41).normal(scale=1e-3, size=(4, 12))
    interval = interquartile_mean({str(level): level + noise[level] for level in range(4)}).interval
    assert interval.high - interval.low < 0.01


def test_order_changes_nothing_and_units_scale():
    scores = {"a": [1.0, 5.0, 2.5], "b": [3.0, 0.5, 7.0]}
    assert interquartile_mean({name: row[::-1] for name, row in scores.items()}) == interquartile_mean(scores)
    eight = interquartile_mean({name: [8 * x for x in row] for name, row in scores.items()})
    assert eight.interval.low == 8 * interquartile_mean(scores).interval.low
    assert eight.value == 8 * interquartile_mean(scores).value


def test_one_seed_has_a_value_without_an_interval():
    found = interquartile_mean({"a": [1.0], "b": [3.0]})
    assert (found.value, found.interval.low, found.interval.status) == (2.0, None, "1 value: no interval")


def test_wrong_scores_are_refused():
    with pytest.raises(LabError, match="at least one workload, got none; pass scores by workload"):
        interquartile_mean({})
    with pytest.raises(LabError, match="every workload must have a score, but 'a' has none; leave it out"):
        interquartile_mean({"a": []})
    with pytest.raises(LabError, match="must be finite, got nan on 'a'; give a diverged run the worst score"):
        interquartile_mean({"a": [math.nan]})
