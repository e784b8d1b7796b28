"""How long lr decays: the share by hand, which steps count, and whole courses of lr."""

from __future__ import annotations

import pytest

from dcao import policies
from dcao.policies import Hyperparameters, Observation
from dcao.policies.base import LrShape
from dcao.policies.decay import MOST_AGREEMENTS, share_of_decay, with_agreement


def seen(step: int, agreement: float | None, lr: float = 1.0, **fields) -> Observation:
    here = Hyperparameters(lr=lr, momentum=0.9, **fields)
    return Observation(
        step=step, s=1e-3 * lr, trust=1.0, hyperparameters=here, relative_step=lr / 8, agreement=agreement
    )


@pytest.mark.parametrize(
    ("agreements", "share"),
    [
        ([], 0.3),
        ([1.0], 0.3),
        ([0.25], 0.3),
        ([0.23], 0.4),  # a fifth of the way from 0.25 to 0.15, and from 0.3 to 0.8
        ([0.2], 0.55),
        ([0.15], 0.8),
        ([0.0], 0.8),
        ([-0.5], 0.8),
        ([0.0, 0.2, 0.9], 0.55),  # the median
        ([0.15, 0.25], 0.55),
    ],
)
def test_the_share_by_hand(agreements, share):
    assert share_of_decay(agreements) == pytest.approx(share, abs=1e-12)


def test_the_steps_from_5_to_20_percent_of_the_run_count():
    counted = [step for step in range(200) if with_agreement([], seen(step, 0.5), 200)]
    assert counted == list(range(10, 40))


def test_where_the_length_or_the_agreement_is_not_known_nothing_counts():
    assert with_agreement([0.5], seen(20, 0.1), None) == [0.5]
    assert with_agreement([0.5], seen(20, None), 200) == [0.5]


def test_of_a_long_run_the_last_ones_are_kept():
    agreements: list[float] = []
    for step in range(100_000, 100_000 + 2 * MOST_AGREEMENTS):
        agreements = with_agreement(agreements, seen(step, float(step)), 10**6)
    assert agreements == [float(100_000 + MOST_AGREEMENTS + each) for each in range(MOST_AGREEMENTS)]


def course(agreement: float | None, *, decay: float | None = None) -> list[float]:
    """The lr of each of 200 steps, with a probe at every fifth."""
    rule, lr, trained = policies.Ceiling(total_steps=200, decay=decay), 1.0, []
    state = rule.init(Hyperparameters(lr=lr))
    for step in range(200):
        if step % 5 == 0:
            decision, state = rule.propose(seen(step, agreement, lr), state)
            lr = decision.hyperparameters.lr
        else:
            lr = rule.between(step, Hyperparameters(lr=lr, momentum=0.9), state).lr
        trained.append(lr)
    return trained


@pytest.mark.parametrize(
    ("agreement", "share"),
    [(0.9, 0.3), (None, 0.3), (0.2, 0.55), (0.05, 0.8)],
    ids=["agree", "unknown", "some", "noise"],
)
def test_a_whole_run_by_hand(agreement, share):
    # l is lr / 8: it starts at 0.01 * 8, and the limit of 0.1 is reached at 0.1 * 8.
    expected = [min(0.08 * 1.1**step, 0.8) * min(1.0, (200 - step) / (share * 200)) for step in range(200)]
    assert course(agreement) == pytest.approx(expected, rel=1e-9)


def test_a_share_that_is_given_is_taken():
    assert course(0.05, decay=0.3) == course(0.9)
    assert course(0.9, decay=0.8) == course(0.05)


def test_under_a_scheduler_that_falls_there_is_none():
    rule = policies.Ceiling(total_steps=200)
    falling = LrShape(share=0.5, decays=True)
    state = {**rule.init(Hyperparameters(lr=1.0)), "step": 150, "arrived": True, "ceiling": 1.0, "agreements": [0.0]}
    assert rule.between(151, Hyperparameters(lr=1.0, shape=falling), state).lr == 1.0
    assert rule.between(151, Hyperparameters(lr=50 / 160), state).lr == pytest.approx(49 / 160)


@pytest.mark.parametrize(("settings", "last"), [({"total_steps": 200}, 49), ({}, 99)], ids=["a quarter", "100 steps"])
def test_the_loss_is_watched_in_the_first_part_of_the_run(settings, last):
    rule = policies.Ceiling(**settings)
    before = rule.init(Hyperparameters(lr=1.0))
    assert not rule.watches_loss(0, before)  # no lr of its own has trained
    _, state = rule.propose(seen(0, None), before)
    assert [step for step in range(300) if rule.watches_loss(step, state)] == list(range(last + 1))
    assert not rule.watches_loss(1, rule.turned_back(0.1, state))
    for without in ({"first_relative_step": None}, {"watched": 0.0}):
        other = policies.Ceiling(**without, **settings)
        _, state = other.propose(seen(0, None), other.init(Hyperparameters(lr=1.0)))
        assert not other.watches_loss(1, state)


def test_once_the_loss_has_turned_lr_stays_under_half_of_what_it_was():
    rule = policies.Ceiling()
    lr, state = 1.0, rule.init(Hyperparameters(lr=1.0))
    for step in range(300):
        if step == 20:
            turned_at = lr
            state = rule.turned_back(turned_at, state)
        if step % 5 == 0:
            decision, state = rule.propose(seen(step, None, lr), state)
            lr = decision.hyperparameters.lr
        else:
            lr = rule.between(step, Hyperparameters(lr=lr, momentum=0.9), state).lr
        assert step < 20 or lr <= 0.5 * turned_at * (1.0 + 1e-12)
    assert lr == pytest.approx(0.5 * turned_at)  # nothing else has cut it


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rule: policies.Compose(policies.WeightDecay(0.2), rule),
        lambda rule: policies.Smoothed(rule),
        lambda rule: policies.Compose(policies.Smoothed(rule)),
    ],
    ids=["compose", "smoothed", "both"],
)
def test_policies_made_of_policies_hand_it_on(wrap):
    rule, here = wrap(policies.Ceiling()), Hyperparameters(lr=1.0, momentum=0.9, weight_decay=0.1)
    _, state = rule.propose(seen(0, None, weight_decay=0.1), rule.init(here))
    assert rule.watches_loss(1, state)
    assert not policies.Compose(policies.LearningRate()).watches_loss(1, {"parts": [{}]})
    state = rule.turned_back(0.5, state)
    assert not rule.watches_loss(1, state)
    assert rule.between(1, here, state).lr == 0.25
