import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from dcao_lab.errors import LabError
from dcao_lab.statistics import performance_profiles

HAND = {
    "dcao": {"mnist": 100.0, "ptb": 300.0, "digits": 50.0, "vit": math.inf},
    "adamw": {"mnist": 200.0, "ptb": 100.0, "digits": 50.0, "vit": math.inf},
    "sgd": {"mnist": 150.0, "ptb": math.inf, "digits": 500.0, "vit": math.inf},
}


def test_hand_worked_example():
    # fastest: mnist 100, ptb 100, digits 50, vit nobody
    # dcao   1    3    1    inf   profile 2/4 on [1, 3), 3/4 on [3, 4]:           (2 x 2/4 + 1 x 3/4) / 3 = 7/12
    # adamw  2    1    1    inf   profile 2/4 on [1, 2), 3/4 on [2, 4]:           (1 x 2/4 + 2 x 3/4) / 3 = 8/12
    # sgd    1.5  inf  10   inf   profile 0 on [1, 1.5), 1/4 on [1.5, 4]:         (2.5 x 1/4) / 3 = 2.5/12
    found = performance_profiles(HAND)
    assert found["dcao"].ratios == {"mnist": 1.0, "ptb": 3.0, "digits": 1.0, "vit": math.inf}
    assert found["sgd"].ratios == {"mnist": 1.5, "ptb": math.inf, "digits": 10.0, "vit": math.inf}
    assert [found["dcao"].at(tau) for tau in (1.0, 2.99, 3.0, 4.0)] == [0.5, 0.5, 0.75, 0.75]
    assert [found["sgd"].at(tau) for tau in (1.0, 1.5, 9.0, 10.0)] == [0.0, 0.25, 0.25, 0.5]
    assert found["dcao"].score == pytest.approx(7 / 12)
    assert found["adamw"].score == pytest.approx(8 / 12)
    assert found["sgd"].score == pytest.approx(2.5 / 12)


TIMES = st.one_of(st.floats(1.0, 50.0), st.just(math.inf))
TABLES = st.lists(st.lists(TIMES, min_size=3, max_size=3), min_size=1, max_size=5)


def as_table(rows):
    return {str(arm): {str(i): row[arm] for i, row in enumerate(rows)} for arm in range(3)}


@given(TABLES)
def test_the_score_is_the_integral_of_the_profile(rows):
    for profile in performance_profiles(as_table(rows)).values():
        taus = np.linspace(1.0, 4.0, 3001)
        integral = trapezoid([profile.at(tau) for tau in taus], taus) / 3.0
        # a jump somewhere in a cell of 0.001 is misplaced by at most that, over a range of 3
        assert profile.score == pytest.approx(integral, abs=0.001 / 3 + 1e-12)


@given(TABLES)
def test_a_profile_rises_from_its_wins_and_scores_within_zero_and_one(rows):
    for profile in performance_profiles(as_table(rows)).values():
        values = [profile.at(tau) for tau in np.linspace(1.0, 60.0, 200)]
        assert values == sorted(values)
        assert 0.0 <= profile.score <= profile.at(profile.r_max) <= 1.0


@given(TABLES, st.sampled_from([2.0**-30, 0.5, 2.0**20]))
def test_the_unit_of_time_does_not_matter(rows, unit):
    # a power of two: the ratios are the same to the last bit
    assert performance_profiles(as_table((np.array(rows) * unit).tolist())) == performance_profiles(as_table(rows))


def test_each_workload_may_have_a_unit_of_its_own():
    scaled = {arm: {**row, "ptb": row["ptb"] * 1024.0} for arm, row in HAND.items()}
    assert performance_profiles(scaled) == performance_profiles(HAND)


def test_the_fastest_everywhere_scores_one_and_one_that_misses_everything_zero():
    found = performance_profiles({"fast": {"a": 1.0, "b": 2.0}, "lost": {"a": math.inf, "b": math.inf}})
    assert (found["fast"].score, found["lost"].score) == (1.0, 0.0)


def test_a_ratio_of_exactly_r_max_is_in_the_profile_and_adds_nothing_to_the_score():
    found = performance_profiles({"fast": {"a": 1.0}, "slow": {"a": 4.0}})["slow"]
    assert (found.at(4.0), found.score) == (1.0, 0.0)


def test_another_r_max_is_another_score():
    # step at 4 of [1, 7]: half
    assert performance_profiles({"fast": {"a": 1.0}, "slow": {"a": 4.0}}, r_max=7.0)["slow"].score == 0.5


@pytest.mark.parametrize("time", [0.0, -1.0, math.nan])
def test_what_is_no_time_is_refused(time):
    with pytest.raises(LabError, match=rf"must be positive, got {time} for 'b' on 'mlp'; write inf where the target"):
        performance_profiles({"a": {"mlp": 1.0}, "b": {"mlp": time}})


def test_an_incomplete_table_is_refused():
    with pytest.raises(LabError, match="every arm must have every workload, but 'b' lacks cnn; finish its runs"):
        performance_profiles({"a": {"mlp": 1.0, "cnn": 1.0}, "b": {"mlp": 1.0}})
    with pytest.raises(LabError, match="at least one arm and every arm must have a workload; got an empty table"):
        performance_profiles({})


@pytest.mark.parametrize("r_max", [1.0, 0.5, math.inf, math.nan])
def test_r_max_must_leave_a_range(r_max):
    with pytest.raises(LabError, match=rf"r_max must be finite and above 1, got {r_max}; AlgoPerf uses 4"):
        performance_profiles({"a": {"mlp": 1.0}}, r_max=r_max)
