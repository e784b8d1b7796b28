"""The learning-rate rule against the proposal's formula (3.2.3) and the closed loop of theory.md 3a."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dcao import policies
from helpers.policy_cases import HERE, run, seen

# eta <- eta * clip(C_target / s, gamma_down, gamma_up), worked by hand: target 1.5, [0.8, 1.1], eta 0.1
TABLE = [
    ("at the target", 1.5, 0.1, False),
    ("above, inside the clip", 1.6, 0.09375, False),
    ("far above", 3.0, 0.08, True),
    ("infinite", math.inf, 0.08, True),
    ("below, inside the clip", 1.4, 0.1 * 1.5 / 1.4, False),
    ("far below", 0.01, 0.11, True),
    ("just at the lower clip", 1.875, 0.08, False),
]


@pytest.mark.parametrize(("name", "s", "lr", "clipped"), TABLE, ids=[row[0] for row in TABLE])
def test_the_rule_is_the_proposals_formula(name, s, lr, clipped):
    rule = policies.LearningRate(1.5)
    decision, _ = rule.propose(seen(s), rule.init(HERE))
    assert decision.hyperparameters.lr == pytest.approx(lr, rel=1e-12)
    assert decision.probe_again is clipped
    assert replace(decision.hyperparameters, lr=HERE.lr) == HERE  # nothing else moves
    assert decision.reason.startswith(f"s {s:.3g} against target 1.5: lr 0.1 -> {lr:.3g}")


def test_the_bounds_stop_the_rule():
    rule = policies.LearningRate(1.5, min_lr=0.09, max_lr=0.105)
    assert [here.lr for here in run(rule, [0.1, 9.0])] == [0.105, 0.09]


@pytest.mark.parametrize("start", [1e-4, 0.03, 0.4, 7.0])
@pytest.mark.parametrize("target", [1.0, 1.5])
def test_on_a_fixed_quadratic_the_target_is_met_in_exactly_as_many_updates_as_theory_says(start, target):
    curvature, rule = 5.0, policies.LearningRate(target)
    distance = math.log(target / (start * curvature))
    factor = math.log(1.1) if distance > 0.0 else -math.log(0.8)
    expected = math.ceil(abs(distance) / factor)
    here, state = replace(HERE, lr=start), rule.init(HERE)
    errors = []
    for _ in range(expected):
        decision, state = rule.propose(seen(here.lr * curvature, here), state)
        here = decision.hyperparameters
        errors.append(abs(here.lr * curvature / target - 1.0))
    assert errors[-1] < 1e-12
    assert all(error > 1e-6 for error in errors[:-1])
    assert rule.propose(seen(here.lr * curvature, here), state)[0].probe_again is False


@pytest.mark.parametrize("s", [0.0, -1e-3, -1.4])
def test_on_the_way_up_a_flat_loss_is_no_reason_to_wait(s):
    rule = policies.LearningRate(1.5)
    decision, state = rule.propose(seen(s), rule.init(HERE))
    assert decision.hyperparameters == replace(HERE, lr=HERE.lr * 1.1)
    assert decision.probe_again
    assert state["arrived"] is False


@pytest.mark.parametrize("s", [0.0, -1e-3, -1.4])
def test_once_the_target_has_been_met_no_curvature_is_held(s):
    rule = policies.LearningRate(1.5)
    _, state = rule.propose(seen(1.6), rule.init(HERE))
    decision, state = rule.propose(seen(s), state)
    assert decision.hyperparameters == HERE
    assert "held: no positive curvature" in decision.reason


def test_curvature_far_below_zero_is_held_from_the_start():
    rule = policies.LearningRate(1.5)
    assert rule.propose(seen(-1.5), rule.init(HERE))[0].hyperparameters == HERE


REFUSED = [
    ({"target": 0.0}, r"target must be positive and finite, got 0.0"),
    ({"target": math.nan}, r"target must be positive and finite, got nan"),
    ({"gamma_down": 0.0}, r"0 < gamma_down <= 1 <= gamma_up, got 0.0 and 1.1"),
    ({"gamma_down": 1.2}, r"0 < gamma_down <= 1 <= gamma_up, got 1.2 and 1.1"),
    ({"gamma_up": 0.9}, r"0 < gamma_down <= 1 <= gamma_up, got 0.8 and 0.9"),
    ({"gamma_up": math.inf}, r"0 < gamma_down <= 1 <= gamma_up, got 0.8 and inf"),
    ({"min_lr": 1.0, "max_lr": 0.1}, r"bounds of lr must satisfy 0.0 <= min <= max <= inf, got 1.0 and 0.1"),
    ({"min_lr": -1.0}, r"bounds of lr must satisfy"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_settings_that_make_no_rule_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        policies.LearningRate(**options)


def test_bounds_that_exclude_the_present_lr_are_refused():
    with pytest.raises(ValueError, match=r"bounds of lr \[0.2, 1000\] exclude its present value 0.1; widen min_lr"):
        policies.LearningRate(min_lr=0.2).init(HERE)
