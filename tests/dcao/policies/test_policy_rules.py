"""What every policy keeps to: bounds, purity, plain state, and rest where an observation says nothing."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dcao import policies
from dcao.policies import Hyperparameters
from helpers.policy_cases import HERE, OBSERVATIONS, POLICY_CASES, seen

over_policies = pytest.mark.parametrize("case", POLICY_CASES, ids=lambda case: case.name)


AT_ZERO = seen(math.inf, Hyperparameters(lr=0.1, momentum=0.0, weight_decay=0.0))  # infinity times zero


@over_policies
@given(observations=st.lists(OBSERVATIONS, min_size=1, max_size=6))
@example(observations=[AT_ZERO])
def test_every_decision_is_inside_the_bounds_whatever_was_seen(case, observations):
    state = case.policy.init(HERE)
    for observation in observations:
        decision, state = case.policy.propose(observation, state)
        now, wanted = observation.hyperparameters, decision.hyperparameters
        assert case.lrs[0] <= wanted.lr <= case.lrs[1] or wanted.lr == now.lr  # a bound, or left alone
        assert 0.0 <= wanted.momentum <= 0.999
        assert 0.0 <= wanted.weight_decay <= 1.0


@over_policies
@given(observations=st.lists(OBSERVATIONS, min_size=1, max_size=4))
def test_the_same_observations_give_the_same_decisions_and_no_state_is_written_into(case, observations):
    runs = []
    for _ in range(2):
        state, decisions = case.policy.init(HERE), []
        for observation in observations:
            before = json.dumps(state)
            decision, following = case.policy.propose(observation, state)
            assert json.dumps(state) == before
            state = following
            decisions.append(decision)
        runs.append((decisions, json.dumps(state)))
    assert runs[0] == runs[1]


@over_policies
@given(observations=st.lists(OBSERVATIONS, min_size=1, max_size=4))
def test_the_state_goes_through_json_and_decides_the_same_after(case, observations):
    state = case.policy.init(HERE)
    for observation in observations:
        decision, following = case.policy.propose(observation, state)
        again, _ = case.policy.propose(observation, json.loads(json.dumps(state)))
        assert again == decision
        state = following


HELD = [
    ("not measured", seen(None), "held: s was not measured"),
    ("not trusted", seen(3.0, trust=0.49), "held: s 3 is trusted only 0.49"),
    ("trust unknown", seen(3.0, trust=math.nan), "held: s 3 is trusted only nan"),
    ("negative curvature", seen(-2.0), r"held: no positive curvature \(s -2\)"),
    ("nan", seen(math.nan), r"held: no positive curvature \(s nan\)"),
    ("lr 0", seen(3.0, Hyperparameters(lr=0.0, momentum=0.9, weight_decay=0.01)), "held: lr is 0"),
]
ADAPTIVE = [case for case in POLICY_CASES if case.name != "fixed"]


@pytest.mark.parametrize("case", ADAPTIVE, ids=lambda case: case.name)
@pytest.mark.parametrize(("name", "observation", "reason"), HELD, ids=[row[0] for row in HELD])
def test_what_an_observation_does_not_say_is_not_acted_on(case, name, observation, reason):
    if name == "negative curvature" and case.name.startswith("ceiling"):
        pytest.skip("no positive curvature means no limit to this rule")
    decision, _ = case.policy.propose(observation, case.policy.init(HERE))
    assert decision.hyperparameters == observation.hyperparameters
    assert decision.probe_again is case.settles  # nothing has been settled yet
    assert re.search(reason, decision.reason)


@pytest.mark.parametrize("case", ADAPTIVE, ids=lambda case: case.name)
def test_a_trust_of_one_half_is_enough(case):
    decision, _ = case.policy.propose(seen(30.0, trust=0.5), case.policy.init(HERE))
    assert decision.hyperparameters != HERE


def test_fixed_changes_nothing_at_any_s():
    policy = policies.Fixed()
    for s in (None, 0.0, 1.5, math.inf):
        decision, state = policy.propose(seen(s), policy.init(HERE))
        assert (decision.hyperparameters, decision.probe_again, state) == (HERE, False, {})
        assert decision.reason == "fixed: changes nothing"
