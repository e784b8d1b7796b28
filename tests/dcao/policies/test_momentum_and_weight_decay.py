"""The momentum and weight-decay rules against the proposal's formulas (3.2.3), and what anchors add."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dcao import policies
from dcao.policies import Hyperparameters
from helpers.policy_cases import HERE, run, seen

# beta <- beta * (1 - alpha * (s - target)); weight_decay <- weight_decay * (1 + alpha * (s - target)); alpha 0.1,
# target 1.5, from 0.9 and 0.01, worked by hand
TABLE = [
    ("at the target", 1.5, 0.9, 0.01),
    ("above", 2.5, 0.81, 0.011),
    ("below", 0.5, 0.99, 0.009),
    ("far above", 6.5, 0.45, 0.015),
    ("clamped", 21.5, 0.0, 0.03),
]


@pytest.mark.parametrize(("name", "s", "momentum", "weight_decay"), TABLE, ids=[row[0] for row in TABLE])
def test_without_an_anchor_the_rules_are_the_proposals_formulas(name, s, momentum, weight_decay):
    for rule, field, expected in (
        (policies.Momentum(0.1, anchor=0.0), "momentum", momentum),
        (policies.WeightDecay(0.1, anchor=0.0), "weight_decay", weight_decay),
    ):
        decision, _ = rule.propose(seen(s), rule.init(HERE))
        assert getattr(decision.hyperparameters, field) == pytest.approx(expected, rel=1e-12)
        assert replace(decision.hyperparameters, **{field: getattr(HERE, field)}) == HERE  # nothing else moves


def test_the_present_lr_is_not_looked_at_and_no_other_probe_is_wanted():
    rule = policies.Momentum(0.1, anchor=0.0)
    decision, _ = rule.propose(seen(2.5, replace(HERE, lr=7.0)), rule.init(HERE))
    assert decision.hyperparameters == replace(HERE, lr=7.0, momentum=pytest.approx(0.81))
    assert not decision.probe_again


@pytest.mark.parametrize("s", [0.5, 2.5])
def test_held_off_the_target_the_proposals_rules_drift_to_their_bounds(s):
    momentum = policies.Momentum(0.1, anchor=0.0, min_momentum=0.5, max_momentum=0.99)
    weight_decay = policies.WeightDecay(0.1, anchor=0.0, min_weight_decay=1e-3, max_weight_decay=0.1)
    assert run(momentum, [s] * 100)[-1].momentum == (0.99 if s < 1.5 else 0.5)
    assert run(weight_decay, [s] * 100)[-1].weight_decay == (1e-3 if s < 1.5 else 0.1)


@pytest.mark.parametrize("error", [-0.5, 1.0])
def test_with_an_anchor_they_come_to_rest_at_a_known_distance(error):
    # log x <- (1 - a) * (log x + log(1 + g * error)) + a * log x_0 rests at log(1 + g * error) * (1 - a) / a
    here = replace(HERE, momentum=0.6)  # so that no bound is met on the way
    for rule, field, gain in (
        (policies.Momentum(0.05, anchor=0.2), "momentum", -0.05),
        (policies.WeightDecay(0.05, anchor=0.2), "weight_decay", 0.05),
    ):
        start = getattr(here, field)
        resting = start * (1.0 + gain * error) ** (0.8 / 0.2)
        away = run(rule, [1.5 + error] * 200, here)
        assert getattr(away[-1], field) == pytest.approx(resting, rel=1e-9)
        back = run(rule, [1.5 + error] * 50 + [1.5] * 200, here)
        assert getattr(back[-1], field) == pytest.approx(start, rel=1e-9)


def test_an_anchor_of_one_never_moves():
    assert run(policies.WeightDecay(0.3, anchor=1.0), [4.0, 0.1])[-1].weight_decay == pytest.approx(0.01, rel=1e-12)


def test_the_anchor_is_the_value_at_the_first_decision_of_the_run():
    assert policies.Momentum().init(replace(HERE, momentum=0.7)) == {"anchor": 0.7}


def test_with_an_anchor_one_decision_at_most_doubles_or_halves():
    momentum, weight_decay = policies.Momentum(0.05, anchor=1e-9), policies.WeightDecay(0.05, anchor=1e-9)
    assert run(momentum, [400.0])[0].momentum == pytest.approx(0.45)
    assert run(weight_decay, [400.0])[0].weight_decay == pytest.approx(0.02)


@pytest.mark.parametrize("anchor", [0.05, 0.5])
@pytest.mark.parametrize(("rule", "field"), [(policies.Momentum, "momentum"), (policies.WeightDecay, "weight_decay")])
def test_one_wild_s_does_not_hold_an_anchored_rule_for_ever(rule, field, anchor):
    for outlier in (21.6, 400.0, math.inf):
        visited = [getattr(here, field) for here in run(rule(0.05, anchor=anchor), [outlier] + [1.5] * 400)]
        assert visited[-1] == pytest.approx(getattr(HERE, field), rel=1e-6), outlier


@pytest.mark.parametrize("anchor", [0.0, 0.1])
@pytest.mark.parametrize("rule", [policies.Momentum, policies.WeightDecay], ids=lambda rule: rule.__name__)
def test_an_infinite_s_says_no_number_and_is_left_to_the_learning_rate(rule, anchor):
    for here in (HERE, Hyperparameters(lr=0.1, momentum=0.0, weight_decay=0.0)):
        policy = rule(0.05, anchor=anchor)
        decision, _ = policy.propose(seen(math.inf, here), policy.init(here))
        assert decision.hyperparameters == here
        assert "held: s is infinite" in decision.reason


REFUSED = [
    (policies.Momentum, {"alpha": math.inf}, r"alpha of the momentum rule must be finite, got inf"),
    (policies.Momentum, {"target": -1.0}, r"target must be positive and finite, got -1.0"),
    (policies.Momentum, {"anchor": 1.5}, r"anchor must be in \[0, 1\], got 1.5"),
    (policies.Momentum, {"max_momentum": 1.0}, r"bounds of momentum must satisfy 0.0 <= min <= max"),
    (policies.WeightDecay, {"alpha": math.nan}, r"alpha of the weight_decay rule must be finite, got nan"),
    (policies.WeightDecay, {"min_weight_decay": 2.0}, r"bounds of weight_decay must satisfy .* got 2.0 and 1.0"),
]


@pytest.mark.parametrize(("rule", "options", "message"), REFUSED, ids=[str(row[1]) for row in REFUSED])
def test_settings_that_make_no_rule_are_refused(rule, options, message):
    with pytest.raises(ValueError, match=message):
        rule(**options)


def test_bounds_that_exclude_the_present_value_are_refused():
    with pytest.raises(ValueError, match=r"bounds of momentum \[0, 0.8\] exclude its present value 0.9; widen min_mom"):
        policies.Momentum(max_momentum=0.8).init(HERE)
    with pytest.raises(ValueError, match=r"bounds of weight_decay \[0.1, 1\] exclude its present value 0.01; widen"):
        policies.WeightDecay(min_weight_decay=0.1).init(HERE)


def test_an_optimizer_without_the_hyperparameter_is_refused():
    with pytest.raises(ValueError, match=r"the momentum rule needs an optimizer with momentum; this one has none"):
        policies.Momentum().init(Hyperparameters(lr=0.1, weight_decay=0.0))
    with pytest.raises(ValueError, match=r"the weight_decay rule needs an optimizer with weight_decay"):
        policies.WeightDecay().init(Hyperparameters(lr=0.1, momentum=0.9))
