import gc

import numpy as np
import pytest

from dcao_lab.statistics import compare, holm
from helpers.binomial import within_binomial_limits


def with_p(p_value):
    """A comparison whose p-value is 2^(1 - n): n positive differences."""
    num_pairs = round(1 - np.log2(p_value))
    found = compare({i: 1.0 + i for i in range(num_pairs)}, dict.fromkeys(range(num_pairs), 0.0), num_resamples=99)
    assert found.p_value == p_value
    return found


def test_hand_worked_example():
    # p = 1/64, 1/16, 1/32 of 3. Sorted 1/64 x 3 = 3/64; 1/32 x 2 = 1/16; 1/16 x 1 = 1/16; running maximum as is.
    found = holm([with_p(1 / 64), with_p(1 / 16), with_p(1 / 32)])
    assert [one.p_holm for one in found] == pytest.approx([3 / 64, 1 / 16, 1 / 16])


def test_a_later_value_is_never_below_an_earlier_one_nor_above_one():
    # 1/4, 1/4, 1/2 of 3: 3/4; then 2/4 raised to 3/4; then 1/2 raised to 3/4.
    assert [one.p_holm for one in holm([with_p(1 / 4), with_p(1 / 4), with_p(1 / 2)])] == [0.75, 0.75, 0.75]
    assert [one.p_holm for one in holm([with_p(1 / 2)] * 5)] == [1.0] * 5


def test_one_comparison_needs_no_correction():
    assert holm([with_p(1 / 32)])[0].p_holm == 1 / 32


def test_what_has_no_p_value_is_kept_in_place_and_not_counted():
    nothing = compare({}, {})
    assert [one.p_holm for one in holm([nothing, with_p(1 / 32), nothing])] == [None, 1 / 32, None]
    assert holm([]) == ()


def test_the_order_of_comparisons_changes_nothing():
    family = [with_p(p) for p in (1 / 64, 1 / 8, 1 / 32, 1 / 2)]
    assert holm(family[::-1]) == holm(family)[::-1]


def test_of_five_true_nulls_any_is_rejected_at_the_exact_family_rate(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels calls it every time: 60 ms
    # The smallest of 5 must reach 0.01. n = 10: T <= 3 has 5 subsets a side (1, 1, 1, 2 by sum), 10/1024 = 0.0098;
    # T <= 4 has 7, 14/1024 > 0.01. Family: 1 - (1 - 10/1024)^5 = 0.048.
    rng = np.random.default_rng(30)
    zero = dict.fromkeys(range(10), 0.0)
    hits = 0
    for family in rng.normal(size=(500, 5, 10)):
        found = holm([compare(dict(enumerate(row)), zero, num_resamples=99) for row in family])
        hits += min(one.p_holm for one in found) <= 0.05
    assert within_binomial_limits(hits, 500, 1 - (1 - 10 / 1024) ** 5)
