"""Rules in turn, and rules that see a median."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcao import policies
from helpers.policy_cases import HERE, run, seen


def test_composed_rules_all_see_the_same_s_and_move_their_own_field():
    parts = [policies.LearningRate(1.5), policies.Momentum(0.1, anchor=0.0), policies.WeightDecay(0.1, anchor=0.0)]
    together = policies.Compose(*parts)
    decision, _ = together.propose(seen(2.5), together.init(HERE))
    alone = [part.propose(seen(2.5), part.init(HERE))[0] for part in parts]
    assert decision.hyperparameters.lr == alone[0].hyperparameters.lr == pytest.approx(0.08)
    assert decision.hyperparameters.momentum == alone[1].hyperparameters.momentum == pytest.approx(0.81)
    assert decision.hyperparameters.weight_decay == alone[2].hyperparameters.weight_decay == pytest.approx(0.011)
    assert decision.reason == "; ".join(part.reason for part in alone)
    assert decision.probe_again


def test_a_later_rule_sees_what_an_earlier_one_decided():
    twice = policies.Compose(policies.LearningRate(1.5), policies.LearningRate(1.5))
    assert run(twice, [9.0])[0].lr == pytest.approx(0.1 * 0.8 * 0.8)


def test_another_probe_is_wanted_if_any_of_the_rules_wants_it():
    rule = policies.Compose(policies.WeightDecay(0.1), policies.LearningRate(1.5))
    assert rule.propose(seen(1.5), rule.init(HERE))[0].probe_again is False
    assert rule.propose(seen(9.0), rule.init(HERE))[0].probe_again is True


def test_each_part_keeps_its_own_state():
    rule = policies.Compose(policies.Smoothed(policies.LearningRate(1.5)), policies.Momentum(0.1))
    _, state = rule.propose(seen(2.0), rule.init(HERE))
    assert state["parts"][0]["curvatures"] == [2.0 / 0.1]
    assert state["parts"][1] == {"anchor": 0.9}


def test_composing_nothing_is_refused():
    with pytest.raises(ValueError, match=r"Compose needs at least one policy, got none; policies.Fixed\(\) changes"):
        policies.Compose()


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12), st.integers(1, 5))
def test_the_inner_rule_sees_the_median_of_the_last_curvatures(numbers, window):
    inner = policies.LearningRate(1.5)
    policy = policies.Smoothed(inner, window=window)
    state, here, inner_state = policy.init(HERE), HERE, inner.init(HERE)
    curvatures = []
    for s in numbers:
        curvatures.append(s / here.lr)
        decision, state = policy.propose(seen(s, here), state)
        median = here.lr * statistics.median(curvatures[-window:])  # s is proportional to lr
        expected, inner_state = inner.propose(seen(median, here), inner_state)
        assert decision.hyperparameters == expected.hyperparameters
        here = decision.hyperparameters


@pytest.mark.parametrize("outlier", [math.inf, 400.0, -3.0, 0.0])
def test_one_outlier_among_three_is_forgotten(outlier):
    policy = policies.Smoothed(policies.LearningRate(1.5))
    assert run(policy, [1.5, 1.5, outlier])[-1].lr == pytest.approx(0.1, rel=1e-12)


def test_two_outliers_among_three_are_believed():
    policy = policies.Smoothed(policies.LearningRate(1.5))
    assert run(policy, [1.5, math.inf, math.inf])[-1].lr == pytest.approx(0.8 * run(policy, [1.5, math.inf])[-1].lr)
    state = policy.init(HERE)
    for s in (1.5, -1.0, -2.0):
        decision, state = policy.propose(seen(s), state)
    assert "held: no positive curvature" in decision.reason


def test_what_is_not_trusted_does_not_enter_the_median():
    policy = policies.Smoothed(policies.LearningRate(1.5))
    state = policy.init(HERE)
    for observation in (seen(1.5), seen(400.0, trust=0.1), seen(None), seen(math.nan), seen(1.5)):
        decision, state = policy.propose(observation, state)
    assert state["curvatures"] == pytest.approx([15.0, 15.0])
    assert decision.hyperparameters.lr == pytest.approx(0.1)


def test_the_reason_says_what_this_probe_said():
    policy = policies.Smoothed(policies.LearningRate(1.5))
    state = policy.init(HERE)
    for s in (1.5, 1.5, 400.0):
        decision, state = policy.propose(seen(s), state)
    assert decision.reason.endswith("; median of 3, this probe 400")


def test_a_rule_under_two_medians_is_still_alarmed_by_what_the_probe_itself_measured():
    policy = policies.Smoothed(policies.Smoothed(policies.LearningRate(1.5)))
    state = policy.init(HERE)
    for s in (1.5, 1.5):
        decision, state = policy.propose(seen(s), state)
        assert not decision.probe_again
    assert policy.propose(seen(400.0), state)[0].probe_again


def test_a_median_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"window must be at least 1 probe, got 0"):
        policies.Smoothed(policies.LearningRate(), window=0)


def test_a_window_of_one_is_the_rule_itself():
    numbers = [0.2, 9.0, 1.4, 1.7]
    bare, through = policies.LearningRate(1.5), policies.Smoothed(policies.LearningRate(1.5), window=1)
    assert [h.lr for h in run(through, numbers)] == pytest.approx([h.lr for h in run(bare, numbers)], rel=1e-12)


def test_the_median_survives_an_lr_that_others_move():
    """Curvature, not s, is what is kept: half the lr, half the s, the same median."""
    policy = policies.Smoothed(policies.LearningRate(1.5))
    state = policy.init(HERE)
    for lr in (0.1, 0.05, 0.2):
        decision, state = policy.propose(seen(15.0 * lr, replace(HERE, lr=lr)), state)
    assert decision.reason.startswith("s 3 against target 1.5")


def test_what_is_printed_of_composed_rules_makes_them_again():
    rule = policies.Compose(policies.Smoothed(policies.LearningRate(1.2)), policies.Momentum(0.1))
    assert eval(repr(rule), vars(policies)) == rule


def test_compose_may_be_replaced_as_any_dataclass():
    first, second = policies.LearningRate(0.5), policies.WeightDecay(0.2)
    rule = policies.Compose(first, second)
    assert replace(rule) == rule == policies.Compose(policies=(first, second))
    assert repr(replace(rule, policies=(second,))) == f"Compose({second!r})"
